from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmtune.models.families import attention_to_use, stays_inside_documents
from llmtune.models.load import load_model
from llmtune.models.shape import read_config
from tests.tiny import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_do_not_see_each_other(family: str, checkpoint: Callable[..., Path]) -> None:
    assert stays_inside_documents(read_config(checkpoint(family)))
    model = load_model(checkpoint(family))
    first, second = torch.arange(5, 25)[None], torch.arange(60, 80)[None]
    positions = torch.arange(20).repeat(2)[None]
    with torch.no_grad():
        alone = model(second).logits
        packed = model(torch.cat([first, second], 1), position_ids=positions, use_cache=False).logits[:, 20:]
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


def test_a_state_space_model_does_carry_over() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=8)).eval()
    assert not stays_inside_documents(model.config.to_dict())
    first, second = torch.arange(5, 25)[None], torch.arange(60, 80)[None]
    with torch.no_grad():
        alone, packed = model(second).logits, model(torch.cat([first, second], 1)).logits[:, 20:]
    assert not torch.allclose(packed, alone, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "inside"),
    [
        ({"model_type": "mixtral"}, True),
        ({"model_type": "olmoe"}, True),
        ({"model_type": "jamba"}, False),
        ({"model_type": "rwkv"}, False),
        ({"model_type": "bloom"}, False),
        ({"model_type": "falcon", "alibi": True}, False),
        ({"model_type": "falcon", "alibi": False}, True),
        ({"model_type": "from-next-year", "mamba_d_state": 16}, False),
        ({"model_type": "from-next-year", "layer_types": ["full_attention", "linear_attention"]}, False),
        ({"model_type": "gemma3", "text_config": {"layer_types": ["sliding_attention", "full_attention"]}}, True),
        ({"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "own.Model"}}, False),
    ],
)
def test_families_by_their_configuration(config: dict[str, object], inside: bool) -> None:
    assert stays_inside_documents(config) is inside


def test_soft_capped_attention_asks_for_eager(checkpoint: Callable[..., Path]) -> None:
    needs = {family: attention_to_use(read_config(checkpoint(family))) for family in FAMILIES}
    assert needs == {family: "eager" if family == "gemma2" else None for family in FAMILIES}

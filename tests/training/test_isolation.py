"""Packed documents: each family computes for a document what it computes for it alone."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row
from llmtune.training.isolation import crosses_documents, isolation_of
from tests.tiny import FAMILIES, tiny_config, tiny_model

# Longer than the sliding windows of the tiny models (24), so that window and border meet.
LENGTHS = ((40, 1, 9), (30, 5))


def packed_row(sizes, seed, vocabulary=320):
    ids = np.random.default_rng(seed).integers(0, vocabulary, sum(sizes)).astype(np.int32)
    return Row(ids, np.repeat(np.arange(len(sizes)), sizes).astype(np.int32), np.ones(len(ids), bool))


def logits(model, batch):
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def alone(model, row, number):
    ids = torch.from_numpy(row.input_ids[row.documents == number].astype(np.int64))[None]
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0]


@pytest.fixture(autouse=True)
def one_thread():
    """These models are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def opt_model():
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=320, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, dropout=0.0, init_std=0.3, pad_token_id=1, bos_token_id=0, eos_token_id=3,
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


@cache
def tiny(family):
    return tiny_model(family)


def model_of(family, attention):
    model = opt_model() if family == "opt" else tiny(family)
    model.set_attn_implementation(attention)
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", [*FAMILIES, "opt"])
def test_packed_documents_have_the_logits_of_each_document_alone(family, attention):
    model = model_of(family, attention)
    collate = Collator(pad_id=1, isolate=isolation_of(model.config.to_dict()))
    rows = [packed_row(sizes, seed) for seed, sizes in enumerate(LENGTHS)]
    batch = collate([Sample(0, index, row) for index, row in enumerate(rows)])  # the second row is padded
    packed = logits(model, batch)
    assert torch.isfinite(packed).all()
    for index, row in enumerate(rows):
        for number in range(len(LENGTHS[index])):
            inside = np.flatnonzero(row.documents == number)
            torch.testing.assert_close(packed[index, inside], alone(model, row, number), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", [*FAMILIES, "opt"])
def test_a_change_in_one_document_changes_nothing_in_the_others(family, attention):
    model = model_of(family, attention)
    isolate = isolation_of(model.config.to_dict())
    assert not crosses_documents(model, isolate)
    assert isolate == ("mask" if family == "opt" else "positions")


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from(["llama", "gemma3_text", "opt"]),
)
def test_any_documents_in_any_rows(shapes, family):
    model = model_of(family, "sdpa")
    rows = [packed_row(sizes[:2], seed) for seed, sizes in enumerate(shapes)]
    batch = Collator(pad_id=1, isolate=isolation_of(model.config.to_dict()))(
        [Sample(0, index, row) for index, row in enumerate(rows)]
    )
    packed = logits(model, batch)
    for index, row in enumerate(rows):
        for number in range(int(row.documents[-1]) + 1):
            inside = np.flatnonzero(row.documents == number)
            torch.testing.assert_close(packed[index, inside], alone(model, row, number), atol=1e-4, rtol=1e-4)


def test_the_check_finds_models_that_do_see_across():
    assert crosses_documents(opt_model(), "positions")  # OPT leaves the positions out of its mask
    llama = tiny("llama")
    assert not crosses_documents(llama, "positions")
    llama.train()
    crosses_documents(llama, "positions")
    assert llama.training
    llama.eval()


def test_a_mask_of_ours_is_not_put_in_the_place_of_sliding_windows():
    from transformers import GptOssConfig

    assert crosses_documents(tiny("gemma3_text"), "mask")
    assert not crosses_documents(tiny("llama"), "mask")
    assert isolation_of(GptOssConfig().to_dict()) == "rows"


def test_the_check_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert crosses_documents(opt_model(), "positions")
        assert not crosses_documents(opt_model(), "mask")
        assert not crosses_documents(tiny("gemma2"), "positions")


def test_a_cache_undoes_the_isolation():
    """Why the collator asks for use_cache=False: were this to pass one day, the demand could go."""
    model = tiny("llama")
    row = packed_row((9, 7), 0)
    batch = Collator(pad_id=1)([Sample(0, 0, row)])
    with torch.no_grad():
        cached = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=True).logits
    assert (cached[0, 9:] - alone(model, row, 1)).abs().max() > 1e-3


def test_padding_on_the_right_changes_nothing_in_a_state_space_model():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=320, hidden_size=32, state_size=4, num_hidden_layers=2, use_mambapy=False)
    model = MambaForCausalLM(config).eval()
    assert isolation_of(config.to_dict()) == "rows"
    assert crosses_documents(model, "positions")
    rows = [packed_row((12,), 0), packed_row((7,), 1)]
    batch = Collator(pad_id=1, isolate="rows")([Sample(0, index, row) for index, row in enumerate(rows)])
    padded = logits(model, batch)
    torch.testing.assert_close(padded[1, :7], alone(model, rows[1], 0), atol=1e-4, rtol=1e-4)


def test_single_documents_keep_the_fast_path_without_a_mask():
    """Rows of one document each give increasing positions, so transformers passes no mask and sdpa runs causal."""
    from transformers.masking_utils import create_causal_mask

    config = tiny_config("llama", attn_implementation="sdpa")
    config._attn_implementation = "sdpa"
    batch = Collator(pad_id=1)([Sample(0, 0, packed_row((12,), 0)), Sample(0, 1, packed_row((7,), 1))])
    mask = create_causal_mask(
        config=config, inputs_embeds=torch.zeros(2, 12, 8), attention_mask=None, past_key_values=None,
        position_ids=batch["position_ids"],
    )  # fmt: skip
    assert mask is None

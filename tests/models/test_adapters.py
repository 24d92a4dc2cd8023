from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.models.adapters import (
    AdapterSettings,
    attach,
    check_adapter_fits,
    load_for_qlora,
    merge,
    save_adapter,
)
from llmtune.models.load import load_model
from llmtune.models.save import save_checkpoint
from tests.tiny import FAMILIES, tiny_checkpoint, tiny_tokenizer

IDS = torch.arange(5, 45)[None]
RANK4 = AdapterSettings(rank=4, alpha=12)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def train_a_little(model: Any) -> Any:
    """Stand-in for training: B and the magnitudes take values."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        elif "magnitude" in name:
            parameter.data.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_are_those_worked_by_hand(family: str, checkpoint: Callable[..., Path]) -> None:
    base = dict(load_model(checkpoint(family)).state_dict())
    adapted = train_a_little(attach(load_model(checkpoint(family)), RANK4, seed=1))
    low_rank = {name: value.clone() for name, value in adapted.state_dict().items() if "lora" in name}
    before = logits(adapted)
    merged = merge(adapted)
    touched = 0
    for name, value in merged.state_dict().items():
        key = "base_model.model." + name.removesuffix(".weight")
        if f"{key}.lora_A.default.weight" in low_rank:
            update = 12 / 4 * low_rank[f"{key}.lora_B.default.weight"] @ low_rank[f"{key}.lora_A.default.weight"]
            update = update.T if family == "gpt2" else update
            torch.testing.assert_close(value, base[name] + update, rtol=0, atol=1e-6)
            touched += 1
        else:
            assert torch.equal(value, base[name]), name
    assert touched == (8 if family == "gpt2" else 14)
    assert logits(load_model(checkpoint(family))).sub(before).abs().max() > 0.05
    torch.testing.assert_close(logits(merged), before, rtol=0, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_modules())


def test_dora_merge_against_the_formula(checkpoint: Callable[..., Path]) -> None:
    base = load_model(checkpoint("llama")).state_dict()
    adapted = train_a_little(attach(load_model(checkpoint("llama")), AdapterSettings(type="dora", rank=4), seed=1))
    state = {name: value.clone() for name, value in adapted.state_dict().items()}
    before = logits(adapted)
    merged = merge(adapted)
    key, name = "base_model.model.model.layers.1.mlp.down_proj.", "model.layers.1.mlp.down_proj.weight"
    direction = base[name] + 2 * state[key + "lora_B.default.weight"] @ state[key + "lora_A.default.weight"]
    magnitude = state[key + "lora_magnitude_vector.default.weight"]
    expected = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(merged.state_dict()[name], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(merged), before, rtol=0, atol=1e-5)


def test_a_bf16_base_is_rounded_once(checkpoint: Callable[..., Path]) -> None:
    """Rounding ΔW to bf16 before the sum, as peft's own merge does, gives other weights."""
    adapted = train_a_little(attach(load_model(checkpoint("llama"), "bfloat16"), RANK4, seed=1))
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    layer = adapted.base_model.model.model.layers[0].mlp.up_proj
    weight, update = layer.base_layer.weight.detach().clone(), layer.get_delta_weight("default").detach()
    merged = merge(adapted).model.layers[0].mlp.up_proj.weight
    assert torch.equal(merged, (weight.float() + update.float()).to(torch.bfloat16))
    assert not torch.equal(merged, weight + update.to(torch.bfloat16))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_qlora_merges_into_the_weights_it_trained_against(
    family: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """In fp32, so that nothing but the choice of base weights can make a difference (transformers #31293)."""
    adapted = train_a_little(attach(load_for_qlora(checkpoint(family), "float32"), AdapterSettings(type="qlora"), 1))
    before = logits(adapted)
    save_adapter(adapted, tmp_path / "adapter", checkpoint(family))
    merged = merge(adapted)
    torch.testing.assert_close(logits(merged), before, rtol=0, atol=2e-5)
    save_checkpoint(merged, tiny_tokenizer(splitting="gpt2"), tmp_path / "merged", dtype="float32")
    reloaded = load_model(tmp_path / "merged")
    assert type(reloaded.get_submodule(_first_linear(family))).__name__ == ("Conv1D" if family == "gpt2" else "Linear")
    torch.testing.assert_close(logits(reloaded), before, rtol=0, atol=2e-5)

    from peft import PeftModel

    into_the_original = PeftModel.from_pretrained(load_model(checkpoint(family)), tmp_path / "adapter")
    assert logits(into_the_original).sub(before).abs().max() > 0.05


def _first_linear(family: str) -> str:
    return "transformer.h.0.attn.c_attn" if family == "gpt2" else "model.layers.0.self_attn.q_proj"


def test_qlora_in_bf16_within_its_rounding(checkpoint: Callable[..., Path]) -> None:
    adapted = train_a_little(attach(load_for_qlora(checkpoint("qwen3")), AdapterSettings(type="qlora", rank=4), 1))
    before = logits(adapted)
    merged = merge(adapted)
    assert merged.dtype == torch.bfloat16
    assert getattr(merged.config, "quantization_config", None) is None
    # bf16 keeps 8 bits: two layers of products of size ~1 round by about 2^-8 each
    assert (logits(merged) - before).pow(2).mean().sqrt() < 0.02 * before.std()


def test_using_a_qlora_base_does_not_change_it(checkpoint: Callable[..., Path]) -> None:
    """bitsandbytes repacks 4-bit layers in eval mode on some CPUs and rounds their scales for good."""
    model = load_for_qlora(checkpoint("llama"))
    layer = model.model.layers[0].mlp.up_proj
    codes, scales, nested = layer.weight.data.clone(), layer.weight.quant_state.absmax.clone(), True
    logits(model)
    assert layer.weight.quant_state.nested is nested
    assert torch.equal(layer.weight.data, codes)
    assert torch.equal(layer.weight.quant_state.absmax, scales)


def test_layers_without_adapter_are_read_back_too(checkpoint: Callable[..., Path]) -> None:
    settings = AdapterSettings(type="qlora", rank=4, targets=["q_proj"])
    adapted = train_a_little(attach(load_for_qlora(checkpoint("llama"), "float32"), settings, 1))
    before = logits(adapted)
    merged = merge(adapted)
    assert all(parameter.is_floating_point() for parameter in merged.parameters())
    torch.testing.assert_close(logits(merged), before, rtol=0, atol=2e-5)


def test_a_merge_that_changes_nothing_is_an_error(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(LlmtuneError, match="changes no weight"):
        merge(attach(load_model(checkpoint("llama")), RANK4, seed=1))


def test_first_weights_depend_on_the_seed_alone(checkpoint: Callable[..., Path]) -> None:
    def start(seed: int, noise: int, **changes: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(noise)
        torch.rand(noise)
        adapted = attach(load_model(checkpoint("llama")), AdapterSettings(rank=4, **changes), seed)
        return {name: value for name, value in adapted.state_dict().items() if "lora" in name}

    first, again, other = start(1, noise=2), start(1, noise=9), start(2, noise=2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(not torch.equal(value, other[name]) for name, value in first.items() if "lora_A" in name)
    assert all(not bool(value.any()) for name, value in first.items() if "lora_B" in name)
    fewer = start(1, noise=4, targets=["v_proj"])
    assert all(torch.equal(value, first[name]) for name, value in fewer.items())
    a = first["base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight"]
    assert a.abs().max() <= 64**-0.5
    assert a.std() == pytest.approx((64 * 3) ** -0.5, rel=0.1)


def test_settings_are_read(checkpoint: Callable[..., Path]) -> None:
    def of(**changes: Any) -> Any:
        return attach(load_model(checkpoint("llama")), AdapterSettings(**changes), 1)

    layer = of(rank=8).base_model.model.model.layers[0].mlp.up_proj
    assert (layer.r["default"], layer.scaling["default"]) == (8, 2.0)
    layer = of(rank=8, alpha=4, dropout=0.25).base_model.model.model.layers[0].mlp.up_proj
    assert (layer.scaling["default"], layer.lora_dropout["default"].p) == (0.5, 0.25)
    named = {name for name, _ in of(targets=["v_proj"]).named_parameters() if "lora_A" in name}
    assert len(named) == 2
    assert all("v_proj" in name for name in named)
    assert any("magnitude" in name for name, _ in of(type="dora").named_parameters())
    with pytest.raises(ValidationError):
        AdapterSettings(rnak=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_the_head_is_left_alone(family: str, checkpoint: Callable[..., Path]) -> None:
    adapted = attach(load_model(checkpoint(family)), RANK4, 1)
    assert not any("lm_head" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_targets_that_cannot_be(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(LlmtuneError, match=r"no linear layer 'q_porj'[\s\S]*did you mean q_proj"):
        attach(load_model(checkpoint("llama")), AdapterSettings(targets=["q_porj"]), 1)
    with pytest.raises(LlmtuneError, match="shares its weights"):
        attach(load_model(checkpoint("llama")), AdapterSettings(targets=["lm_head"]), 1)
    attach(load_model(checkpoint("mistral")), AdapterSettings(targets=["lm_head"]), 1)
    with pytest.raises(LlmtuneError, match="4 bits"):
        attach(load_model(checkpoint("llama")), AdapterSettings(type="qlora"), 1)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_alone_loads_what_was_saved(kind: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    for family in ("llama", "gpt2"):
        settings = AdapterSettings(type=kind, rank=4)  # type: ignore[arg-type]
        adapted = train_a_little(attach(load_model(checkpoint(family)), settings, 1))
        before = logits(adapted)
        save_adapter(adapted, tmp_path / family, checkpoint(family))
        again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint(family)), tmp_path / family)
        torch.testing.assert_close(logits(again), before, rtol=0, atol=1e-5)
        config = (tmp_path / family / "adapter_config.json").read_text()
        assert str(checkpoint(family).parent) not in config
        assert json.loads(config)["base_model_name_or_path"] is None


def test_saved_adapters_are_the_same_bytes(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_adapter(train_a_little(attach(load_model(checkpoint("llama")), RANK4, 1)), tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    targets = json.loads((tmp_path / "one" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)


def test_inert_and_empty_adapters_are_refused(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    untrained = attach(load_model(checkpoint("llama")), RANK4, 1)
    with pytest.raises(BadArtifact, match="every B matrix"):
        save_adapter(untrained, tmp_path)
    trained = train_a_little(untrained)
    spread = {name: torch.empty(0) for name in trained.state_dict()}
    with pytest.raises(BadArtifact, match="ZeRO-3"):
        save_adapter(trained, tmp_path, state_dict=spread)
    with pytest.raises(BadArtifact, match="not in what was given"):
        save_adapter(trained, tmp_path, state_dict={"else": torch.ones(1)})
    wrong = trained.state_dict()
    next(value for name, value in wrong.items() if "lora_B" in name)[0, 0] = float("inf")
    with pytest.raises(BadArtifact, match="not finite"):
        save_adapter(trained, tmp_path, state_dict=wrong)
    assert not (tmp_path / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_leave_no_segment_in_the_names(wrapper: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    adapted = train_a_little(attach(load_model(checkpoint("llama")), RANK4, 1))
    gathered = {wrapper + name: value.clone() for name, value in adapted.state_dict().items()}
    save_adapter(adapted, tmp_path / "gathered", state_dict=gathered)
    save_adapter(adapted, tmp_path / "plain")
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("gathered", "plain"))
    assert set(one) == set(two)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_an_adapter_for_another_base(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    for family in ("llama", "gpt2"):
        adapted = train_a_little(attach(load_model(checkpoint(family)), RANK4, 1))
        save_adapter(adapted, tmp_path / family, checkpoint(family))
        check_adapter_fits(tmp_path / family, checkpoint(family))
    wider = tiny_checkpoint(tmp_path / "wider", "llama", hidden=96)
    with pytest.raises(BadArtifact, match=r"another base.*inputs"):
        check_adapter_fits(tmp_path / "llama", wider)
    with pytest.raises(BadArtifact, match="no layer"):
        check_adapter_fits(tmp_path / "llama", checkpoint("gpt2"))
    shallow = tiny_checkpoint(tmp_path / "shallow", "llama", layers=1)
    with pytest.raises(BadArtifact, match=r"no layer model\.layers\.1"):
        check_adapter_fits(tmp_path / "llama", shallow)
    sibling = tiny_checkpoint(tmp_path / "sibling", "llama", seed=5)
    with pytest.raises(BadArtifact, match="other weights"):
        check_adapter_fits(tmp_path / "llama", sibling)
    moved = shutil.copytree(checkpoint("llama"), tmp_path / "moved")
    check_adapter_fits(tmp_path / "llama", moved)
    with pytest.raises(BadArtifact, match="no adapter"):
        check_adapter_fits(moved, moved)


def test_nothing_is_merged_into_8_bit_codes(checkpoint: Callable[..., Path]) -> None:
    adapted = train_a_little(attach(load_model(checkpoint("llama")), RANK4, seed=1))
    base = adapted.base_model.model.model.layers[1].mlp.up_proj.base_layer
    base.weight = torch.nn.Parameter(torch.ones(base.weight.shape, dtype=torch.int8), requires_grad=False)
    with pytest.raises(LlmtuneError, match=r"layers\.1\.mlp\.up_proj[\s\S]*stored as codes"):
        merge(adapted)


def test_a_quantized_base_is_not_quantized_again(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    save_checkpoint(load_for_qlora(checkpoint("llama")), None, tmp_path)
    with pytest.raises(LlmtuneError, match="quantized \\(bitsandbytes\\)"):
        load_for_qlora(tmp_path)

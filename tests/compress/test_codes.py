"""Codes on disk against hand-worked numbers and against what transformers computes with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from llmtune.compress.codes import read_codes, unpack
from llmtune.compress.grid import Grid
from llmtune.compress.quantize import Calibration, quantize
from llmtune.errors import BadArtifact
from llmtune.machine import Machine

GRIDS = [Grid(4, 32, True), Grid(4, 32, False), Grid(3, 32, True), Grid(8, 32, True)]


def test_unpack_hand_worked() -> None:
    # 4 bits: codes -8, 0, 7, … stored as code + 8 from the lowest bits up: 0x…_F80
    assert unpack(np.array([[0x00000F80]], np.int32), 4, 3).tolist() == [[-8, 0, 7]]
    # 3 bits: eleven codes need 33 bits; the eleventh (stored as 5 = 0b101) crosses into the second word
    words = np.array([[np.int32(np.uint32(0b01 << 30).view(np.int32)), 0b1]], np.int32)
    assert unpack(words, 3, 11).tolist() == [[-4] * 10 + [1]]


def test_unpack_agrees_with_compressed_tensors() -> None:
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    rng = np.random.default_rng(0)
    for bits in (3, 4, 8):
        codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (5, 70)).astype(np.int8)
        packed = pack_to_int32(torch.from_numpy(codes), bits).numpy()
        assert np.array_equal(unpack(packed, bits, 70), codes)


def test_rounding_hand_worked(tmp_path) -> None:
    """A group whose largest weight is 7.5 has scale 1 (absmax / 7.5), so the codes are the weights to the nearest."""
    import torch

    from llmtune.compress.groupwise import round_to_codes

    linear = torch.nn.Linear(16, 2, bias=False, dtype=torch.bfloat16)
    rows = [
        [7.5, 6.75, -1.25, 0.25, 3.0, -4.5, 2.5, -6.0, 0.0, 1.0, -1.75, 5.25, -7.0, 4.0, -2.25, 0.75],
        [3.75, -1.0, 0.25, 2.0, -3.5, 1.375, -0.125, 0.5, 3.0, -2.875, 0.0, 1.0, -0.5, 2.5, -1.5, 0.75],
    ]
    linear.weight.data = torch.tensor(rows, dtype=torch.bfloat16)
    model = _Wrapped(linear)
    model.config.save_pretrained(tmp_path)
    model.config.name_or_path = str(tmp_path)
    round_to_codes(model, Grid(4, 16, True), (), scale_search=False)
    assert linear.weight_scale.float().tolist() == [[1.0], [0.5]]
    from compressed_tensors.quantization.lifecycle.forward import quantize as to_codes

    codes = to_codes(linear.weight, linear.weight_scale, None, linear.quantization_scheme.weights, dtype=torch.int8)
    by_hand = [
        [7, 7, -1, 0, 3, -4, 2, -6, 0, 1, -2, 5, -7, 4, -2, 1],
        [7, -2, 0, 4, -7, 3, 0, 1, 6, -6, 0, 2, -1, 5, -3, 2],
    ]
    assert codes.tolist() == by_hand


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"w{grid.bits}{'' if grid.symmetric else 'a'}")
def test_codes_are_what_transformers_computes(tiny, tmp_path, family: str, grid: Grid) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    metrics = quantize(tiny(family), tmp_path, method="round", grid=grid)
    assert metrics["quantized_layers"] == 14
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    placed = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32)
    weights = placed.state_dict()
    seen = 0
    for name, codes, scales, zero_points in read_codes(tmp_path):
        out, inputs = weights[name].shape
        assert codes.shape == (out, inputs)
        assert scales.shape == (out, inputs // 32)
        assert (zero_points is None) == grid.symmetric
        offset = 0 if zero_points is None else np.repeat(zero_points, 32, 1)
        weight = (codes.astype(np.float32) - offset) * np.repeat(scales, 32, 1)
        assert np.linalg.norm(weight - weights[name].numpy()) < {8: 0.02, 4: 0.2, 3: 0.4}[grid.bits] * np.linalg.norm(
            weights[name].numpy()
        )
        weights[name].copy_(torch.from_numpy(weight))
        seen += 1
    assert seen == 14
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.allclose(loaded(tokens).logits, placed(tokens).logits, rtol=0, atol=1e-5)


def test_symmetric_scales_fit_fp16(tiny, tmp_path) -> None:
    """Q4_0 keeps its scales in fp16: none may lose bits on the way."""
    assert quantize(tiny("llama"), tmp_path, method="round", grid=Grid(4, 32, True))["scales_exact_in_fp16"]


def test_offsets_fit_fp16(tiny, corpus, tmp_path) -> None:
    """Q4_1 keeps scale and offset in fp16."""
    text = Calibration(corpus, 4, 32, seed=1)
    metrics = quantize(tiny("llama"), tmp_path, method="gptq", grid=Grid(4, 32, False), calibration=text)
    assert metrics["scales_exact_in_fp16"]


def test_no_codes_in_plain_checkpoint(tiny) -> None:
    with pytest.raises(BadArtifact, match="compressed-tensors"):
        next(read_codes(tiny("llama")))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["round", "nf4", "int8"])
def test_fresh_processes_agree(tiny, tmp_path, method) -> None:
    """transformers alone, in two processes that never saw this package, gives the same logits, near the base's."""
    quantize(tiny("llama"), tmp_path, method=method, grid=Grid(4, 32, True) if method == "round" else None)
    script = (
        "import sys, torch, transformers\n"
        "m = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)\n"
        "with torch.no_grad(): l = m(torch.arange(40)[None]).logits.float()\n"
        "assert 'llmtune' not in sys.modules\n"
        "print(l.double().sum().item().hex(), *l[0, -1, :4].tolist())\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    import torch
    from transformers import AutoModelForCausalLM

    here = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    with torch.no_grad():
        logits = here(torch.arange(40)[None]).logits.float()
    assert [float(x) for x in runs[0].split()[1:]] == logits[0, -1, :4].tolist()


def _Wrapped(linear):
    """The least model that llmcompressor takes: one linear layer in a PreTrainedModel."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=0, num_attention_heads=1,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(linear.weight.dtype)
    model.lm_head = linear
    return model


@pytest.mark.parametrize("flags", [frozenset(), frozenset({"amx_bf16"})], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "grid", [*GRIDS, Grid(8, 32, False)], ids=lambda grid: f"w{grid.bits}{'' if grid.symmetric else 'a'}"
)
def test_stored_codes_are_those_that_gptq_chose(tiny, corpus, tmp_path, monkeypatch, grid: Grid, flags) -> None:
    """Codes on disk are round(W / scale) + zero of what GPTQ left, whatever format the machine computes in."""
    from llmtune.compress import groupwise
    from llmtune.machine import Machine

    left: dict[str, tuple] = {}

    def keep(modules) -> None:
        for name, module in modules.items():
            zero = getattr(module, "weight_zero_point", None)
            zero = 0 if zero is None else np.repeat(zero.cpu().numpy().astype(float), 32, 1)
            scale = np.repeat(module.weight_scale.double().cpu().numpy(), 32, 1)
            left[f"{name}.weight"] = (module.weight.detach().double().cpu().numpy() / scale, zero)

    monkeypatch.setattr(groupwise, "_check_all_rounded", keep)
    machine = Machine(cores=1, memory=1 << 30, flags=flags, accelerators=())
    monkeypatch.setattr("llmtune.compress.quantize.this_machine", lambda: machine)
    quantize(tiny("llama"), tmp_path, method="gptq", grid=grid, calibration=Calibration(corpus, 4, 32, seed=1))
    for name, codes, _, _ in read_codes(tmp_path):
        places, zero = left.pop(name)
        assert np.array_equal(codes, np.rint(places) + zero), name
        # on the grid itself, not between two codes: nothing but the last digits was lost
        assert np.abs(places - np.rint(places)).max() < (1e-3 if grid.bits > 4 or not flags else 0.05)
    assert not left


def test_wide_asymmetric_scales_keep_eight_bits() -> None:
    """Q4_1 takes up to 4 bits; codes of 8 bits must not pay for it with their scales."""
    from types import SimpleNamespace

    import torch

    from llmtune.compress.modifiers import _exact_in_fp16

    scale = torch.tensor([1.2345, 0.00777, 3.999])
    for bits, symmetric, kept in ((8, True, 8), (8, False, 8), (4, False, 7), (3, False, 8)):
        arguments = SimpleNamespace(num_bits=bits, symmetric=symmetric)
        found = _exact_in_fp16({"scale": scale.clone()}, arguments)["scale"]
        assert ((found - scale).abs() <= scale * 2.0**-kept).all()
        mantissa, _ = torch.frexp(found)
        assert (mantissa * 2**kept == torch.round(mantissa * 2**kept)).all()


def test_4_bits_are_computed_in_fp32_where_there_is_no_bf16(tiny, tmp_path, monkeypatch) -> None:
    """As with every layer's weights unpacked by bitsandbytes itself."""
    import torch
    from bitsandbytes.functional import dequantize_4bit

    from llmtune.models.load import load_model, load_to_run

    quantize(tiny("llama"), tmp_path, method="nf4")
    monkeypatch.setattr("llmtune.models.load.this_machine", lambda: Machine(2, 8 << 30, frozenset(), ()))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    # Where the processor does compute in bf16, bitsandbytes would pack the layers anew and round their scales.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    ids = torch.arange(40)[None]
    plain = load_model(tmp_path, "float32")
    for name, module in list(plain.named_modules()):
        if hasattr(module, "compute_dtype"):
            linear = torch.nn.Linear(module.in_features, module.out_features, bias=False)
            module.weight.quant_state.dtype = torch.float32  # else they are rounded to bf16
            linear.weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.set_submodule(name, linear)
    with torch.no_grad():
        torch.testing.assert_close(load_to_run(tmp_path)(ids).logits, plain(ids).logits, rtol=0, atol=1e-5)

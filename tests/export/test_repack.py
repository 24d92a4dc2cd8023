"""Codes of a quantized checkpoint taken into GGUF as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmtune.errors import CannotRunHere
from llmtune.export.bundle import GgufSettings, export_gguf
from llmtune.export.card import Origin
from llmtune.export.repack import check_repack, grid_format, pack_rows, repack_format
from llmtune.extras import have
from tests.tiny import tiny_checkpoint

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.skipif(not have("compressed_tensors"), reason="needs the extra quantize")

GRIDS = [
    pytest.param(4, 32, True, "q4_0", id="q4_0"),
    pytest.param(4, 64, True, "q4_0", id="q4_0-groups-of-64"),
    pytest.param(3, 32, True, "q4_0", id="3-bits-in-q4_0"),
    pytest.param(4, 32, False, "q4_1", id="q4_1"),
    pytest.param(8, 32, True, "q8_0", id="q8_0"),
]


@pytest.mark.parametrize(("bits", "group", "symmetric", "kind"), GRIDS)
def test_blocks_dequantize_to_the_checkpoints_weights(bits: int, group: int, symmetric: bool, kind: str) -> None:
    """Against the gguf package's own reading of the blocks."""
    random = np.random.default_rng(0)
    half = 2 ** (bits - 1)
    codes = random.integers(-half, half, (2, 128)).astype(np.int8)
    scales = np.array([0.5, 0.0625, 3.0, 0.0078125], dtype=np.float32)[: 128 // group] * np.array(
        [[1.0], [2.0]], dtype=np.float32
    )
    zero = None if symmetric else np.array([[-3, 0, 7, -8], [1, 2, 3, 4]], dtype=np.int8)[:, : 128 // group]
    shift = 0 if zero is None else np.repeat(zero, group, axis=1).astype(np.float32)
    expected = (codes - shift) * np.repeat(scales, group, axis=1)
    packed = pack_rows(kind, codes, scales, zero, bits)
    back = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind.upper()])
    assert np.array_equal(back, expected.astype(np.float32))


def test_which_grids_fit() -> None:
    assert grid_format(4, 128, True) == "q4_0"
    assert grid_format(4, None, True) == "q4_0"
    assert grid_format(4, 48, True) is None
    assert grid_format(8, 32, False) is None
    assert repack_format({"quant_method": "bitsandbytes"}) is None


def _quantized(folder: Path, checkpoint: Path, bits: int, group: int, symmetric: bool) -> Path:
    from llmtune.compress.grid import Grid
    from llmtune.compress.quantize import quantize
    from llmtune.monitor import Monitor

    folder.mkdir()
    quantize(
        checkpoint,
        folder,
        method="round",
        grid=Grid(bits, group, symmetric),
        calibration=None,
        scale_search=True,
        ignore=("lm_head",),
        work=folder.parent / "work",
        monitor=Monitor(),
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "group", "symmetric", "kind"), [GRIDS[0], GRIDS[3]])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_code_arrives_bit_for_bit(
    family: str, bits: int, group: int, symmetric: bool, kind: str, tmp_path: Path
) -> None:
    """Llama's query and key rows are reordered by the converter, Qwen's are not: both arrive where they belong."""
    import torch

    from llmtune.compress.codes import read_codes
    from llmtune.export.read_back import read_back
    from llmtune.models.load import load_model

    checkpoint = tiny_checkpoint(tmp_path / "plain", family, dtype="bfloat16")
    quantized = _quantized(tmp_path / "quantized", checkpoint, bits, group, symmetric)
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir(exist_ok=True)
    settings = GgufSettings(kind, embeddings="f32")
    metrics = export_gguf(quantized, tmp_path / "out", settings, Origin("tiny", "base"), work=tmp_path / "work")
    codes = {one.name: one for one in read_codes(quantized)}
    assert metrics["repacked_tensors"] == len(codes) == 14
    assert metrics["scales_exact"]
    model = load_model(tmp_path / "work" / "unpacked", dtype="float32")
    read_back(next((tmp_path / "out").glob("*.gguf")), model)
    state = model.state_dict()
    for name, one in codes.items():
        assert torch.equal(state[name], torch.from_numpy(one.weight())), name


@pytest.mark.slow
def test_another_grid_would_round_twice(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "plain", "llama", dtype="bfloat16")
    quantized = _quantized(tmp_path / "quantized", checkpoint, 4, 32, True)
    check_repack(quantized, "q4_0")
    with pytest.raises(CannotRunHere, match="would quantize this checkpoint twice") as caught:
        export_gguf(quantized, tmp_path, GgufSettings("q8_0"), Origin("tiny", "base"), work=tmp_path)
    assert "q4_0" in str(caught.value.fix)


@pytest.mark.slow
def test_layers_that_were_kept_stay_as_they_are(tmp_path: Path) -> None:
    """What `ignore` left in bf16 is not rounded on the way; a weight whose rows are another's is found like any."""
    import torch
    from safetensors.torch import load_file, save_file

    from llmtune.compress.grid import Grid
    from llmtune.compress.quantize import quantize
    from llmtune.export.read_back import read_back
    from llmtune.models.load import load_model

    checkpoint = tiny_checkpoint(tmp_path / "plain", "qwen3", dtype="bfloat16")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].clone()
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    quantize(checkpoint, quantized, method="round", grid=Grid(4, 32, True), ignore=("lm_head", "down_proj"))
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    metrics = export_gguf(quantized, tmp_path / "out", GgufSettings("q4_0"), Origin("t", "b"), work=tmp_path / "work")
    assert (metrics["repacked_tensors"], metrics["kept_tensors"]) == (12, 2)
    file = next((tmp_path / "out").glob("*.gguf"))
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(file).tensors}
    named = ("blk.0.ffn_down", "blk.1.ffn_down", "token_embd")
    assert [kinds[f"{name}.weight"] for name in named] == ["BF16", "BF16", "Q8_0"]
    assert "2 tensors that it left unrounded" in (tmp_path / "out" / "README.md").read_text()
    model = load_model(tmp_path / "work" / "unpacked", dtype="float32")
    read_back(file, model)
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(model.state_dict()[name], weights[name].float())


def test_the_plain_format_that_loses_nothing() -> None:
    from llmtune.export.gguf_file import _exact_format

    assert _exact_format(np.array([[1.0, -0.5, 2.0**120]], dtype=np.float32)) == "bf16"
    assert _exact_format(np.array([[1.0 + 2.0**-10]], dtype=np.float32)) == "f16"  # 11 significant bits
    assert _exact_format(np.array([[1.0 + 2.0**-20]], dtype=np.float32)) == "f32"
    assert _exact_format(np.array([[1.0 + 2.0**-10, 2.0**120]], dtype=np.float32)) == "f32"


def test_a_weight_whose_rows_are_anothers_counts_as_found(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from llmtune.compress.codes import read_codes
    from llmtune.export.repack import Repacker

    checkpoint = tiny_checkpoint(tmp_path / "plain", "llama", dtype="bfloat16")
    weights = load_file(checkpoint / "model.safetensors")
    same = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
    weights[same[1]] = weights[same[0]].clone()
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    quantized = _quantized(tmp_path / "quantized", checkpoint, 4, 32, True)
    packer = Repacker(quantized, "q4_0")
    assert len(packer.unused()) == 14
    codes = {one.name: one for one in read_codes(quantized)}
    packer(same[0], codes[same[0]].weight())
    assert len(packer.unused()) == 12
    assert not set(same) & set(packer.unused())
    assert not packer.takes("other", codes[same[0]].weight() + 1)

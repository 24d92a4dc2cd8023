"""Codes of a quantized checkpoint taken into GGUF as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmtune.errors import CannotRunHere
from llmtune.export.bundle import GgufSettings, export_gguf
from llmtune.export.card import Origin
from llmtune.export.repack import check_repack, grid_format, pack_rows, repack_format
from tests.tiny import tiny_checkpoint

gguf = pytest.importorskip("gguf")
pytest.importorskip("compressed_tensors")

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

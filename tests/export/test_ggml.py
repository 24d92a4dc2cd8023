"""The quantizer behind ctypes against the gguf package's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.export.formats import FORMATS, fitting, tensor_bytes
from llmtune.export.ggml import quantize

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return (np.random.default_rng(0).standard_t(5, (96, 512)) * 0.03).astype(np.float32)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1"])
def test_bytes_equal_the_gguf_packages(kind: str, weights: np.ndarray) -> None:
    theirs = gguf.quantize(weights, gguf.GGMLQuantizationType(FORMATS[kind].ggml)).view(np.uint8)
    assert np.array_equal(quantize(weights, kind, name="w"), theirs)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if FORMATS[kind].block > 1])
def test_error_is_within_half_of_what_verification_allows(kind: str, weights: np.ndarray) -> None:
    packed = quantize(weights, kind, name="w")
    back = gguf.dequantize(packed, gguf.GGMLQuantizationType(FORMATS[kind].ggml))
    assert np.linalg.norm(back - weights) / np.linalg.norm(weights) < 0.6 * FORMATS[kind].error


@pytest.mark.parametrize("kind", list(FORMATS))
def test_block_sizes_and_file_types_are_ggmls(kind: str) -> None:
    chosen = FORMATS[kind]
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(chosen.ggml)] == (chosen.block, chosen.bytes)
    named = gguf.LlamaFileType(chosen.file).name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
    assert named.startswith(kind)


def test_importance_lowers_the_error_of_important_columns(weights: np.ndarray) -> None:
    importance = np.ones(512, dtype=np.float32)
    importance[::8] = 1000
    kind = gguf.GGMLQuantizationType.Q4_0

    def error(given: np.ndarray | None) -> float:
        back = gguf.dequantize(quantize(weights, "q4_0", given, name="w"), kind)
        return float(np.square(back - weights)[:, ::8].sum())

    assert error(importance) < 0.8 * error(None)


def test_rows_that_do_not_fit_name_the_tensor_and_what_fits(weights: np.ndarray) -> None:
    with pytest.raises(CannotRunHere) as caught:
        quantize(weights[:, :480], "q4_k", name="blk.0.ffn_up.weight")
    assert caught.value.where == "blk.0.ffn_up.weight"
    assert "q4_0" in str(caught.value)
    assert "q6_k" not in str(caught.value.fix)
    assert fitting(480) == [kind for kind in FORMATS_IN_ORDER if 480 % FORMATS[kind].block == 0]


FORMATS_IN_ORDER = ["f32", "f16", "bf16", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1", "iq4_nl"]


def test_nan_is_refused_by_name(weights: np.ndarray) -> None:
    broken = weights.copy()
    broken[3, 5] = math.nan
    with pytest.raises(BadArtifact, match=r"blk\.1\.attn_q"):
        quantize(broken, "q8_0", name="blk.1.attn_q.weight")


def test_stacked_experts_keep_their_shape() -> None:
    stacked = np.random.default_rng(1).standard_normal((3, 5, 64)).astype(np.float32)
    packed = quantize(stacked, "q5_1", name="e")
    assert packed.shape == (3, 5, tensor_bytes("e", (64,), "q5_1"))
    assert np.array_equal(packed[1], quantize(stacked[1], "q5_1", name="e"))

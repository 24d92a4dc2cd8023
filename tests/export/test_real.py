"""The whole export of the real SmolLM2."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from llmtune.errors import CannotRunHere, LlmtuneError, VerificationFailed
from llmtune.export.bundle import GgufSettings, export_gguf
from llmtune.export.card import Origin
from llmtune.export.estimate import estimate_gguf
from llmtune.export.llama_runtime import LlamaRuntime
from llmtune.export.verify_gguf import verify_gguf
from llmtune.models.shape import read_shape

gguf = pytest.importorskip("gguf")
pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    from llmtune.models.find import resolve
    from llmtune.models.reference import ModelReference
    from llmtune.monitor import Monitor

    try:
        return resolve(ModelReference.parse("smollm2-135m-instruct-q4"), Monitor())
    except LlmtuneError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(GGUF in Q4_0, float32 GGUF)."""
    output, work = tmp_path_factory.mktemp("output"), tmp_path_factory.mktemp("work")
    metrics = export_gguf(checkpoint, output, GgufSettings("q4_0"), Origin("smollm2", "smollm2"), work=work)
    assert metrics["conversion_kl"] < 1e-2
    assert metrics["top1"] > 0.8
    assert metrics["file_bytes"] < 0.4 * read_shape(checkpoint).bytes
    planned = estimate_gguf(read_shape(checkpoint), "q4_0", "q8_0", repack=False, importance_tokens=0)
    assert abs(planned.bytes - metrics["bytes"]) < 0.01 * metrics["bytes"]
    return next(output.glob("*.gguf")), work / "float32.gguf"


def test_a_corrupted_tensor_is_named_within_a_minute(
    exported: tuple[Path, Path], checkpoint: Path, tmp_path: Path
) -> None:
    """Two rows of one of 272 tensors exchanged."""
    file, converted = exported
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(file.read_bytes())
    tensor = next(one for one in gguf.GGUFReader(file).tensors if one.name == "blk.17.attn_output.weight")
    data = np.array(tensor.data)
    data[[3, 4]] = data[[4, 3]]
    with bad.open("r+b") as opened:
        opened.seek(int(tensor.data_offset))
        opened.write(data.tobytes())
    start = time.monotonic()
    with pytest.raises(VerificationFailed, match=r"1 of 272 tensors .* blk\.17\.attn_output\.weight") as caught:
        verify_gguf(bad, checkpoint, "q4_0", converted=converted)
    assert time.monotonic() - start < 180  # under a minute on two cores of one's own
    assert "model.layers.17.self_attn.o_proj.weight" in str(caught.value)


def test_k_quants_do_not_fit_its_rows(checkpoint: Path) -> None:
    with pytest.raises(CannotRunHere, match="rows of this tensor have 576"):
        estimate_gguf(read_shape(checkpoint), "q4_k", "q8_0", repack=False, importance_tokens=0)


def test_it_answers(exported: tuple[Path, Path]) -> None:
    with LlamaRuntime(exported[0]) as runtime:
        question = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
        assert "Paris" in "".join(runtime.stream(question, 20, 0.0, seed=0))

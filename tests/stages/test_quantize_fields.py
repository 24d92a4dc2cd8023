"""Every setting of the `quantize` stage is read: change it, and other tensors are stored, or it is refused."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.extras import have
from llmtune.stages.quantize import QuantizeStage
from llmtune.stages.stage import Context
from tests.stages.fields import WIRING, paths_of, with_setting
from tests.tiny import TEXT, tiny_checkpoint

pytestmark = pytest.mark.skipif(
    not (have("llmcompressor") and have("bitsandbytes")), reason="needs the extras quantize and bitsandbytes"
)

ROUND: dict[str, Any] = {"method": "round"}
GPTQ: dict[str, Any] = {"method": "gptq", "calibration": {"rows": 4, "tokens": 32}}
NF4: dict[str, Any] = {"method": "nf4"}
INT8: dict[str, Any] = {"method": "int8"}
# setting → (the settings beside it, the changed value), once for each method with code of its own for it
CHANGES: dict[str, list[tuple[dict[str, Any], Any]]] = {
    "bits": [(ROUND, 8), (ROUND, 3), (GPTQ, 3)],
    "group_size": [(ROUND, 16), (GPTQ, 64)],
    "symmetric": [(ROUND, False), (GPTQ, False)],
    "scales": [(ROUND, "largest"), (GPTQ, "largest")],
    "calibration.rows": [(GPTQ, 6)],
    "calibration.tokens": [(GPTQ, 48)],
    "calibration.seed": [(GPTQ, 1)],
    "ignore": [(ROUND, ["lm_head", "down_proj"]), (GPTQ, ["lm_head", "q_proj"]), (NF4, ["lm_head", "q_proj"]),
               (INT8, ["lm_head", "re:.*layers.1.*"])],
}  # fmt: skip
ELSEWHERE = {"method"}
CASES = [
    pytest.param(path, *case, id=f"{path}-{case[0]['method']}-{case[1]}")
    for path, cases in CHANGES.items()
    for case in cases
]

Quantized = Callable[[dict[str, Any]], dict[str, str]]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """settings → name and hash of every tensor that the stage stores; each settings run once."""
    place = tmp_path_factory.mktemp("quantize")
    inputs = {
        "checkpoint": Artifact(
            "checkpoint", tiny_checkpoint(place / "model", "qwen3", dtype="bfloat16"), "f", "base", "model"
        ),
        "corpus": Artifact("corpus", _corpus(place / "corpus"), "c", "corpus", "corpus"),
    }
    made: dict[str, dict[str, str]] = {}

    def run(settings: dict[str, Any]) -> dict[str, str]:
        if repr(settings) not in made:
            folder = place / str(len(made))
            (folder / "output").mkdir(parents=True)
            stage = QuantizeStage.model_validate(settings)
            taken = {need.name: inputs[need.name] for need in stage.inputs_needed()}
            stage.run(taken, Context(folder / "output", folder / "work", seed=7))
            made[repr(settings)] = _tensors(folder / "output")
        return made[repr(settings)]

    return run


def _corpus(folder: Path) -> Path:
    texts = [" ".join(TEXT[(number + step) % len(TEXT)] for step in range(4)) + f" {number}" for number in range(40)]
    write_split(folder, "train", [Document(f"d{n}", text, None, "s", None, "", str(n)) for n, text in enumerate(texts)])
    return folder


def _tensors(folder: Path) -> dict[str, str]:
    """What is stored apart from config.json, which repeats the settings."""
    import torch
    from safetensors.torch import load_file

    return {
        name: f"{tensor.dtype} {hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()}"
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def test_the_table_is_complete() -> None:
    assert paths_of(QuantizeStage) == set(CHANGES) | ELSEWHERE | set(WIRING)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "base", "value"), CASES)
def test_setting_is_read(quantized: Quantized, path: str, base: dict[str, Any], value: Any) -> None:
    changed = with_setting(base, path, value)
    assert quantized(changed) != quantized(base)
    assert QuantizeStage.model_validate(changed).identity() != QuantizeStage.model_validate(base).identity()


@pytest.mark.slow
def test_every_method_stores_something_else(quantized: Quantized) -> None:
    for one, other in itertools.combinations((ROUND, GPTQ, NF4, INT8), 2):
        assert quantized(one) != quantized(other)


@pytest.mark.slow
def test_defaults_are_those_described(quantized: Quantized) -> None:
    written = {"bits": 4, "group_size": 32, "symmetric": True, "scales": "search", "ignore": ["lm_head"]}
    assert quantized(ROUND | written) == quantized(ROUND)
    assert quantized(with_setting(GPTQ, "calibration.seed", 7)) == quantized(GPTQ)
    assert QuantizeStage().method == "gptq"


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize("path", ["bits", "group_size", "symmetric", "scales"])
def test_settings_without_a_meaning_are_refused(method: str, path: str) -> None:
    value = {"bits": 3, "group_size": 32, "symmetric": False, "scales": "largest"}[path]
    with pytest.raises(ValidationError, match=method):
        QuantizeStage.model_validate({"method": method, path: value})


@pytest.mark.parametrize("method", ["round", "nf4", "int8"])
def test_calibration_without_gptq_is_refused(method: str) -> None:
    with pytest.raises(ValidationError, match="calibration is for method gptq"):
        QuantizeStage.model_validate({"method": method, "calibration": {"rows": 4}})

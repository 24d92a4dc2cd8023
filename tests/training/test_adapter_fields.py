"""Every setting of the `adapter` block of `train` is read: change it, and other losses are recorded and other weights
are saved, or it is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.models.adapters import AdapterSettings
from llmtune.stages.stage import Context
from llmtune.stages.train import TrainStage
from llmtune.training.session import HISTORY
from tests.stages.fields import paths_of
from tests.training.small_run import SMALL, small_place

BASE: dict[str, Any] = {"type": "lora", "rank": 4}
# setting → the changed values
CHANGES: dict[str, list[Any]] = {
    "type": ["dora", "qlora"],
    "rank": [8],
    "alpha": [2],
    "dropout": [0.3],
    "targets": [["q_proj", "v_proj"]],
}
Trained = Callable[[dict[str, Any]], dict[str, Any]]


def stage_of(adapter: dict[str, Any]) -> TrainStage:
    return TrainStage.model_validate({**SMALL, "tokens": 1500, "adapter": adapter})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Adapter settings → what the stage left; each settings trained once."""
    place = small_place(tmp_path_factory.mktemp("adapter"))
    inputs = {
        "checkpoint": Artifact("checkpoint", place / "model", "f", "base", "model"),
        "corpus": Artifact("corpus", place / "corpus", "c", "corpus", "corpus"),
    }
    made: dict[str, dict[str, Any]] = {}

    def run(adapter: dict[str, Any]) -> dict[str, Any]:
        if repr(adapter) not in made:
            folder = place / str(len(made))
            (folder / "output").mkdir(parents=True)
            stage_of(adapter).run(inputs, Context(folder / "output", folder / "work", seed=7))
            made[repr(adapter)] = _left_in(folder / "output")
        return made[repr(adapter)]

    return run


def _left_in(output: Path) -> dict[str, Any]:
    """The recorded losses, and hashes of the merged weights and of the adapter's own."""
    from safetensors.torch import load_file

    def hashes(file: Path) -> dict[str, str]:
        return {
            name: f"{tuple(tensor.shape)} {hashlib.sha256(tensor.float().numpy().tobytes()).hexdigest()}"
            for name, tensor in load_file(file).items()
        }

    return {
        "history": (output / HISTORY).read_text(),
        "merged": hashes(output / "model.safetensors"),
        "adapter": hashes(output / "adapter" / "adapter_model.safetensors"),
    }


def test_the_table_is_complete() -> None:
    assert paths_of(AdapterSettings) == set(CHANGES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values], ids=str
)
def test_setting_is_read(trained: Trained, name: str, value: Any) -> None:
    changed = BASE | {name: value}
    if value == "qlora":
        pytest.importorskip("bitsandbytes")
    before, after = trained(BASE), trained(changed)
    for part in before:
        assert before[part] != after[part], part
    assert stage_of(changed).identity() != stage_of(BASE).identity()


@pytest.mark.slow
def test_defaults_are_those_described(trained: Trained) -> None:
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert trained(BASE | {"alpha": 8, "dropout": 0.0, "targets": every}) == trained(BASE)
    assert (AdapterSettings().type, AdapterSettings().rank) == ("lora", 16)


@pytest.mark.slow
def test_targets_that_the_model_does_not_have_are_refused(trained: Trained) -> None:
    with pytest.raises(LlmtuneError, match=r"(?s)no linear layer 'q_prj'.*did you mean q_proj"):
        trained(BASE | {"targets": ["q_prj"]})

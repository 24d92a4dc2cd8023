"""Every setting that `distill` adds to those of `train` is read; those of `train` are its own
(tests/training/test_loop_settings.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtune.artifacts import Artifact
from llmtune.stages.distill import DistillStage
from llmtune.stages.stage import Context
from llmtune.stages.train import TrainStage
from tests.stages.fields import paths_of
from tests.tiny import tiny_checkpoint
from tests.training.small_run import SMALL, small_place

CHANGES: dict[str, Any] = {"temperature": 2.0, "data_loss": 0.9}
WIRED = {"teacher.name", "teacher.revision", "teacher.trust_remote_code"}  # tests/recipe/test_graph.py


def test_every_setting_is_tried() -> None:
    assert paths_of(DistillStage) - paths_of(TrainStage) == {*CHANGES, *WIRED}


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Settings → hash of the weights they lead to."""
    place = small_place(tmp_path_factory.mktemp("distil"))
    tiny_checkpoint(place / "teacher", "qwen3", seed=3)
    made: dict[str, str] = {}

    def run(**settings: Any) -> str:
        key = repr(settings)
        if key not in made:
            output = place / str(len(made)) / "output"
            output.mkdir(parents=True)
            stage = DistillStage.model_validate({**SMALL, "tokens": 1000, **settings})
            inputs = {name: artifact(place / name) for name in ("teacher", "corpus")}
            inputs["checkpoint"] = artifact(place / "model")
            stage.run(inputs, Context(output, output.parent / "work", seed=7))
            made[key] = hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()
        return made[key]

    return run


def artifact(folder: Path) -> Artifact:
    return Artifact("checkpoint", folder, folder.name, folder.name, "model")


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_changes_what_is_learnt(distilled: Callable[..., str], setting: str) -> None:
    assert distilled() != distilled(**{setting: CHANGES[setting]})

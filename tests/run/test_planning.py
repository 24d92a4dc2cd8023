"""What a plan says of the whole run: whether it fits the disk, and what a finished corpus turned out to hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmtune.artifacts import LOCATION, Artifact
from llmtune.files import write_json
from llmtune.machine import Machine, this_machine
from llmtune.recipe import load_recipe
from llmtune.recipe.graph import Node
from llmtune.run.display import Display
from llmtune.run.planning import PlannedNode, _known, as_launched, doubts, node_fingerprint
from llmtune.run.runner import Run
from llmtune.run.store import Store
from llmtune.stages.answers import AnswersStage
from llmtune.stages.stage import Forecast, Plan, Stage
from llmtune.stages.train import TrainStage
from tests.run.toy.toy_stages import CountStage
from tests.tiny import tiny_checkpoint


def planned(disk: int, makes: int) -> PlannedNode:
    stage = AnswersStage(id="a", prompts=["?"])
    plan = Plan(Forecast("scores", makes), memory=0, disk=disk)
    return PlannedNode(Node("a", stage, {}), stage, {}, "f", plan, None)


def test_the_work_of_a_stage_is_gone_when_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(this_machine(), memory=1 << 40)
    todo = [planned(100, 30), planned(100, 30), planned(20, 10)]  # at most 30 that stays and 100 at work
    for free, fits in ((130, True), (129, False)):
        monkeypatch.setattr(Machine, "disk_free", lambda self, folder, free=free: free)
        assert (doubts(todo, machine, tmp_path) == []) is fits


class OwnLaunch(AnswersStage):
    """A stage of another package with a setting of this name that means something else."""

    launch: str = "at noon"


def test_only_a_launched_stage_is_run_by_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    own, count = OwnLaunch(prompts=["?"]), CountStage(launch=Path("two.yaml"))
    assert as_launched(own) == own
    assert as_launched(count) == CountStage()

    def name(stage: Stage) -> str:
        return node_fingerprint(stage, {}, {}, 0)

    alone = name(own), name(count)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert name(own) == alone[0]
    assert name(count) != alone[1]


def test_a_micro_batch_is_halved_as_long_as_it_has_a_row() -> None:
    training = TrainStage(row_tokens=64, batch_tokens=128, micro_batch=64)  # a batch has two rows, and so a micro-batch
    assert [training.can_halve(number) for number in range(4)] == [True, True, False, False]
    assert not AnswersStage(prompts=["?"]).can_halve(0)


def test_a_finished_corpus_is_planned_with_as_what_it_became(tmp_path: Path) -> None:
    forecast = Forecast("corpus", 5, tokens={"train": 1_000_000, "valid": 0, "test": 0})
    splits = {name: {"characters": 3750 * size} for name, size in (("train", 8), ("valid", 1), ("test", 1))}
    artifact = Artifact("corpus", tmp_path, "f", "corpus", "corpus", metrics={"splits": splits})
    assert _known(forecast, artifact, Store(tmp_path)).tokens == {"train": 8000, "valid": 1000, "test": 1000}


def test_runs_in_a_models_own_folder_are_no_part_of_the_model(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(f"name: toy\nmodel: {model}\nstages: [export]\n")
    execution = Run(load_recipe(tmp_path), model / "runs", Display())
    base, export = execution.plan()
    output = tmp_path / "output"
    write_json(output / LOCATION, {"location": str(model)})
    execution.store.publish(Artifact("checkpoint", output, base.fingerprint, "base", "model"), output, {})
    (model / "runs" / "another").write_bytes(bytes(10 * export.plan.disk))
    found, again = execution.plan()
    assert found.artifact is not None
    assert again.plan.disk == export.plan.disk

"""What a plan says of the whole run: whether it fits the disk, and what a finished corpus turned out to hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmtune.artifacts import Artifact
from llmtune.machine import Machine, this_machine
from llmtune.recipe.graph import Node
from llmtune.run.planning import PlannedNode, _known
from llmtune.run.runner import doubts
from llmtune.stages.answers import AnswersStage
from llmtune.stages.stage import Forecast, Plan


def planned(disk: int, makes: int) -> PlannedNode:
    stage = AnswersStage(id="a", prompts=["?"])
    plan = Plan(Forecast("scores", "answers", makes), memory=0, disk=disk)
    return PlannedNode(Node("a", stage, {}), stage, {}, "f", plan, None)


def test_the_work_of_a_stage_is_gone_when_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(this_machine(), memory=1 << 40)
    todo = [planned(100, 30), planned(100, 30), planned(20, 10)]  # at most 30 that stays and 100 at work
    for free, fits in ((130, True), (129, False)):
        monkeypatch.setattr(Machine, "disk_free", lambda self, folder, free=free: free)
        assert (doubts(todo, machine, tmp_path) == []) is fits


def test_a_finished_corpus_is_planned_with_as_what_it_became(tmp_path: Path) -> None:
    forecast = Forecast("corpus", "corpus", 5, tokens={"train": 1_000_000, "valid": 0, "test": 0})
    splits = {name: {"characters": 3750 * size} for name, size in (("train", 8), ("valid", 1), ("test", 1))}
    artifact = Artifact("corpus", tmp_path, "f", "corpus", "corpus", metrics={"splits": splits})
    assert _known(forecast, artifact).tokens == {"train": 8000, "valid": 1000, "test": 1000}

"""Files that a stage reads and that change while the run goes on: what becomes of its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtune import stages
from llmtune.artifacts import LOCATION
from llmtune.errors import LlmtuneError, OutOfMemory
from llmtune.files import write_json, write_text
from llmtune.recipe import load_recipe
from llmtune.run import making, supervise
from llmtune.run.display import Display
from llmtune.run.job import Job, Workshop
from llmtune.run.runner import Run
from llmtune.run.supervise import Outcome, _Spent
from llmtune.stages.corpus import CorpusStage
from tests.run.toy.toy_stages import CountStage

PLANNED, EDITED = "distributed_type: MULTI_GPU\n", "distributed_type: NO\n"


class ReadStage(CountStage):
    """A stage of another package that several ranks run, and that reads a file of the user's."""

    kind = "read"

    document: Path

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"document": self.document.read_text()}


class Workers:
    """In the place of worker processes. Makes an artifact at once, having called `at_work` with the number of the
    worker (from 1) and how it was launched, the base model's not counted."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.launched: list[str | None] = []
        self.at_work: Callable[[int], None] = lambda number: None

    def __call__(self, job: Job, launch: Path | None, *_: object) -> Outcome:
        if job.kind == "model":
            write_json(job.places.output / LOCATION, {"location": str(self.model)})
        else:
            self.launched.append(launch.read_text() if launch else None)
            self.at_work(len(self.launched))
            write_text(job.places.output / "total.txt", job.kind)
        return Outcome({}, 0.0, 0, 0)


@pytest.fixture
def workers(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    kinds = {one.kind: one for one in (CountStage, ReadStage, CorpusStage)}
    monkeypatch.setattr(stages, "stage_kinds", lambda: kinds)
    found = Workers(tiny_model)
    monkeypatch.setattr(making, "run_worker", found)
    (tmp_path / "launch.yaml").write_text(PLANNED)
    (tmp_path / "document.txt").write_text("as planned")
    return found


def run_of(folder: Path, model: Path, *written: str) -> Run:
    lines = "".join(f"  - {stage}\n" for stage in written)
    (folder / "recipe.yaml").write_text(f"name: toy\nmodel: {model}\nstages:\n{lines}")
    return Run(load_recipe(folder), folder / "runs", Display())


def read_stage(folder: Path) -> str:
    return f"read: {{launch: launch.yaml, document: {json.dumps(str(folder / 'document.txt'))}}}"


def test_a_launch_file_edited_during_a_training_does_not_cost_the_result(tmp_path: Path, workers: Workers) -> None:
    workers.at_work = lambda number: (tmp_path / "launch.yaml").write_text(EDITED) and None
    execution = run_of(tmp_path, workers.model, read_stage(tmp_path))
    planned = execution.plan()[1].fingerprint
    assert "read" in execution.go()
    assert workers.launched == [PLANNED]
    assert execution.store.find(planned) is not None
    assert execution.plan()[1].artifact is None, "the edited one is another"


def test_a_launch_file_edited_before_a_training_is_told_before_it_starts(tmp_path: Path, workers: Workers) -> None:
    workers.at_work = lambda number: (tmp_path / "launch.yaml").write_text(EDITED) and None
    execution = run_of(tmp_path, workers.model, "count", read_stage(tmp_path))
    with pytest.raises(LlmtuneError, match="the files that stage 'read' reads changed after this run was planned"):
        execution.go()
    assert workers.launched == [None], "count, and no other"
    again = run_of(tmp_path, workers.model, "count", read_stage(tmp_path))
    assert "read" in again.go()
    assert workers.launched == [None, EDITED]


def test_a_launch_file_that_is_gone_is_told_before_a_training_starts(tmp_path: Path, workers: Workers) -> None:
    workers.at_work = lambda number: (tmp_path / "launch.yaml").unlink()
    with pytest.raises(LlmtuneError, match="the files that stage 'read' reads changed after this run was planned"):
        run_of(tmp_path, workers.model, "count", read_stage(tmp_path)).go()


def test_a_training_starts_again_as_it_was_launched(tmp_path: Path, workers: Workers) -> None:
    """After running out of memory, whatever became of the file meanwhile."""

    def at_work(number: int) -> None:
        (tmp_path / "launch.yaml").write_text(EDITED)
        if number < 3:
            raise OutOfMemory("no room")

    workers.at_work = at_work
    execution = run_of(tmp_path, workers.model, read_stage(tmp_path))
    planned = execution.plan()[1].fingerprint
    assert execution.go()["read"].halvings == 2
    assert workers.launched == [PLANNED] * 3
    assert execution.store.find(planned) is not None


def test_a_launched_stage_is_held_to_its_other_files(tmp_path: Path, workers: Workers) -> None:
    workers.at_work = lambda number: (tmp_path / "document.txt").write_text("edited") and None
    execution = run_of(tmp_path, workers.model, read_stage(tmp_path))
    planned = execution.plan()[1].fingerprint
    with pytest.raises(LlmtuneError, match="the files that stage 'read' reads changed after this run was planned"):
        execution.go()
    assert execution.store.find(planned) is None
    assert not execution.store.workshop(planned).exists()


def test_documents_that_change_while_the_corpus_is_made_cost_the_result(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    for name in "abc":
        text = f"{name}: the planner estimates the cost of each path and keeps one."
        (tmp_path / "docs" / f"{name}.txt").write_text(text)

    def run_worker(job: Job, *rest: Any) -> Outcome:
        if job.kind == "corpus":
            (tmp_path / "docs" / "c.txt").write_text("Another text, which nobody planned for, stands in this file now.")
            return supervise.run_worker(job, *rest)
        return workers(job, *rest)

    monkeypatch.setattr(making, "run_worker", run_worker)
    corpus = "corpus: {sources: [{path: docs}], near_duplicates: null, min_characters: 9}"
    execution = run_of(tmp_path, workers.model, corpus)
    planned = execution.plan()[1].fingerprint
    with pytest.raises(LlmtuneError, match="the files that stage 'corpus' reads changed after this run was planned"):
        execution.go()
    assert (tmp_path / "runs/toy/01-corpus").is_dir(), "it was begun"
    assert execution.store.find(planned) is None
    assert not execution.store.workshop(planned).exists()
    again = run_of(tmp_path, workers.model, corpus)
    assert "corpus" in again.go()


def test_a_full_disk_is_not_told_by_the_account_of_what_a_worker_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by the worker, which knows what it was about to write."""

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(supervise, "write_json", full)
    monkeypatch.setattr(supervise, "_SPENT_POLL", 0.0)
    (tmp_path / "half").write_text("written")
    spent = _Spent(Workshop(tmp_path))
    spent.look()
    assert spent.disk == len("written")
    spent.end()

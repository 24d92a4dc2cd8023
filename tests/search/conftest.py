"""Studies of toy stages in this process: the worker is a function call, which can be killed at any moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from optuna.storages._rdb.storage import _VersionManager

from llmtune import stages
from llmtune.artifacts import read_artifact
from llmtune.files import empty_folder
from llmtune.machine import this_machine
from llmtune.monitor import Monitor
from llmtune.recipe.load import Written
from llmtune.run.display import Display
from llmtune.run.events import append_event
from llmtune.run.job import Job, Workshop
from llmtune.run.supervise import Outcome, StopSwitch
from llmtune.search.study import Study
from llmtune.stages.stage import Context
from tests.run.conftest import CommandLine
from tests.search.toy import learn_stage

TOY = Path(learn_stage.__file__).parent
KINDS = {cls.kind: cls for cls in (learn_stage.WordsStage, learn_stage.LearnStage, learn_stage.SqueezeStage)}
RECIPE = """\
name: toy
model: smollm2-135m-instruct-q4
seed: 3
stages:
  - words
  - learn: {steps: 6}
  - squeeze
search:
"""


class Killed(BaseException):
    """As kill -9: nothing of ours catches it."""


class Moments:
    """Counts the moments of a study; at one it is killed, or Ctrl-C is pressed."""

    def __init__(self) -> None:
        self.passed = 0
        self.fatal: int | None = None
        self.press_at: int | None = None

    def pass_one(self, switch: StopSwitch) -> None:
        self.passed += 1
        if self.passed == self.press_at:
            switch.press()
        if self.passed == self.fatal:
            raise Killed


class _Heard(Monitor):
    """The worker's monitor and its supervisor in one: an event is written, then heard, with a moment around each."""

    def __init__(self, places: Workshop, switch: StopSwitch, on_event: Callable[..., None], moments: Moments) -> None:
        self._places, self._switch, self._on_event, self._moments = places, switch, on_event, moments

    def record(self, kind: str, /, **fields: Any) -> None:
        append_event(self._places.events, kind, **fields)
        self._moments.pass_one(self._switch)
        self._on_event({"event": kind, **fields})
        self._moments.pass_one(self._switch)

    def stop_requested(self) -> bool:
        self._moments.pass_one(self._switch)
        return self._switch.presses > 0


@cache
def _once(ask: Callable[[Any], str]) -> Callable[[Any], str]:
    """Ask the first time: Optuna reads all its migrations, each time."""
    answers: list[str] = []

    def answer(of: Any) -> str:
        if not answers:
            answers.append(ask(of))
        return answers[0]

    return answer


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    moments = Moments()

    def run_here(
        job: Job, launch: None, log: Path, switch: StopSwitch, on_event: Callable[..., None], call_ranks: None = None
    ) -> Outcome:
        job.write()
        empty_folder(job.places.output)
        job.places.work.mkdir(exist_ok=True)
        moments.pass_one(switch)
        stage = KINDS[job.kind].model_validate(job.settings)
        inputs = {name: read_artifact(Path(folder)) for name, folder in job.inputs.items()}
        monitor = _Heard(job.places, switch, on_event, moments)
        metrics = stage.run(inputs, Context(job.places.output, job.places.work, job.seed, monitor))
        moments.pass_one(switch)
        return Outcome(metrics, 1.0, 0, 0)

    monkeypatch.setattr("llmtune.run.making.run_worker", run_here)
    monkeypatch.setattr("llmtune.run.runner.environment", dict)  # asks git, each time
    monkeypatch.setattr("llmtune.search.study.environment", dict)
    monkeypatch.setattr(_VersionManager, "get_head_version", _once(_VersionManager.get_head_version))
    return moments


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "stage_kinds", lambda: KINDS)


class Bench:
    """Writes recipes with a search, and makes their studies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.machine = folder, this_machine()

    def study(self, search: str, head: str = RECIPE, overrides: tuple[str, ...] = (), runs: str = "runs") -> Study:
        """search: the lines of the block, indented by any number of blanks."""
        file = self.folder / "recipe.yaml"
        file.write_text(head + search)
        return Study(Written(file, file.read_bytes(), overrides), self.folder / runs, Display(), self.machine)


@pytest.fixture
def bench(toys: None, tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(study: Study) -> list[tuple[Any, ...]]:
    """All that a study came to, but for the time it took."""
    return [
        (one.number, one.state.name, one.params, one.value, one.intermediate_values, one.user_attrs.get("reason"))
        for one in study.files.finished()
    ]


def run(study: Study) -> list[tuple[Any, ...]]:
    """Run a study; returns what it came to."""
    with study.run.locked():
        study.go()
    return told(study)


@pytest.fixture
def line(tmp_path: Path, tiny_model: Path) -> CommandLine:
    command_line = CommandLine(tmp_path, tiny_model)
    command_line.environment["PYTHONPATH"] = str(TOY)
    return command_line

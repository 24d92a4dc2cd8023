"""A study from the command line, with worker processes: killed, stopped, gone on with, and its best recipe run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.run.conftest import CommandLine, tiny_model  # noqa: F401
from tests.run.test_kill import write_documents

pytestmark = pytest.mark.slow

TOYS = """
  space:
    learn.lr: {low: 1e-4, high: 0.5, log: true}
    learn.width: {choices: [4, 8]}
  minimize: learn.valid_loss
  trials: 3
  pruner: median
  prune_after: 1
"""
REAL = """
  space:
    train.lr: {choices: [3e-3, 1e-7]}
  minimize: train.valid_loss
  sampler: grid
  pruner: median
  prune_after: 1
"""


def told(line: CommandLine) -> list[tuple[Any, ...]]:
    """The finished trials, read with Optuna alone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{line.folder}/runs/toy/trials/study.db")
    return [(one.number, one.state.name, one.params, one.value, one.intermediate_values) for one in study.trials]


def write(line: CommandLine, stages: str, search: str) -> None:
    line.recipe(stages)
    with (line.folder / "toy.yaml").open("a") as file:
        file.write(f"search:{search}")


def other(line: CommandLine, folder: Path) -> CommandLine:
    """A command line like this one in a folder of its own."""
    command_line = CommandLine(folder, line.model)
    command_line.environment = dict(line.environment)
    return command_line


def done(line: CommandLine, *arguments: str) -> str:
    """The output of a command that succeeds."""
    finished = line.run(*arguments, timeout=180)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_killed_and_stopped_it_ends_as_if_never_disturbed(
    line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = other(line, tmp_path_factory.mktemp("whole"))
    for one in (whole, line):
        write(one, "words\nlearn: {steps: 6, seconds_each: 0.1}\nsqueeze", TOYS)
    shown = done(whole, "run", "toy.yaml")
    assert "trial 3 of 3" in shown
    assert "trial 3  run  runs/toy/trials/003\nbest  recipe  runs/toy/best.yaml\n" in done(whole, "runs", "toy")
    for number, disturb in enumerate((signal.SIGKILL, signal.SIGINT)):
        running = line.start("run", "toy.yaml")
        state = f"runs/toy/trials/00{number + 1}/validations.json"
        line.wait_for((line.folder / state).exists)
        running.send_signal(disturb)
        output = running.communicate(timeout=30)[0]
        assert running.returncode in (-9, 130), output
        assert "Traceback" not in output
    done(line, "run", "toy.yaml")
    assert told(line) == told(whole)
    assert "toy │ done  │ 3 of 3" in done(line, "runs")

    best = line.folder / "runs/toy/best.yaml"
    assert "learn found in the store" in done(line, "run", str(best))
    report = (line.folder / "runs/toy/report.html").read_text()
    assert "3 of 3 trials" in report
    assert (line.folder / "runs/toy/03-squeeze/stage.json").is_file()


def test_what_a_study_has_no_use_for_is_refused(line: CommandLine) -> None:
    write(line, "words\nlearn", TOYS)
    refused = line.run("run", "toy.yaml", "--only", "learn")
    assert refused.returncode == 2
    assert "a recipe with `search:` runs trials" in refused.stderr
    assert "3 trials (tpe), about 1 min 0 s each; made once: words" in done(line, "plan", "toy.yaml")
    assert "A search over learn.lr, learn.width." in done(line, "validate", "toy.yaml")


def test_a_real_training_is_pruned_and_another_killed_and_gone_on_with(line: CommandLine) -> None:
    write_documents(line.folder / "docs")
    write(
        line,
        "corpus: {sources: [{path: docs}], split: {valid: 0.2, test: 0.1}, near_duplicates: null}\n"
        "train: {tokens: 1024, row_tokens: 64, batch_tokens: 256, validation: {every: 2, rows: 4}}",
        REAL,
    )
    running = line.start("run", "toy.yaml")
    line.wait_for((line.folder / "runs/toy/trials/001/validations.json").exists, seconds=90)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert not told(line)
    shown = done(line, "run", "toy.yaml")
    (first, second) = told(line)
    assert (first[1], second[1]) == ("COMPLETE", "PRUNED"), "nothing is learned at a rate of 1e-7"
    assert {2, 4} <= set(first[4])
    assert first[3] == min(first[4].values())
    assert sorted(second[4]) == [2]
    assert second[4][2] > first[4][2]
    assert "trial 2 pruned" in shown
    assert "lr: 0.003" in (line.folder / "runs/toy/best.yaml").read_text()

"""`llmtune report` and the others that are given a run's folder: whichever way it is named, its store is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from llmtune.artifacts import STORE, Artifact
from llmtune.cli.report import report
from llmtune.cli.run import tell
from llmtune.cli.runs import runs as list_runs
from llmtune.cli.target import find_corpus
from llmtune.errors import LlmtuneError
from llmtune.files import write_json, write_text
from llmtune.recipe import load_recipe
from llmtune.report.collect import FinishedStage, RunStory
from llmtune.report.summary import results
from llmtune.run.display import Display
from llmtune.run.folder import RunFolder, StageRecord, artifacts_of_run, is_run
from llmtune.run.runner import Run
from llmtune.run.store import ASIDE, Store

STEPS = "".join(json.dumps({"step": step, "loss": 3 - step / 10, "lr": 1e-3}) + "\n" for step in range(1, 5))


def run_in(folder: Path, runs: Path) -> Path:
    """A run that made a corpus and a checkpoint."""
    files, store = RunFolder(folder), Store(runs / STORE)
    write_text(files.recipe, "name: demo\n")
    write_text(files.events, "")
    write_json(files.environment, {"python": "3.11", "accelerators": [], "packages": {}})
    card = '{"dropped": {"empty": 3}}'
    made = [("corpus", "corpus", "card.json", card), ("train", "checkpoint", "history.jsonl", STEPS)]
    for number, (kind, makes, name, content) in enumerate(made):
        output = runs / "out"
        write_text(output / name, content)
        if store.find(f"f-{kind}") is None:
            store.publish(Artifact(makes, output, f"f-{kind}", kind, kind), output, {})
        cost = {"memory": 1.0, "disk": 1.0, "seconds": 1.0}
        record = StageRecord(kind, kind, f"f-{kind}", {}, {}, cost, cost, False, 0, [])
        files.write(files.stage_folder(number, kind), record)
    return folder


def command(function: object, *arguments: object) -> str:
    app = typer.Typer()
    app.command()(function)  # type: ignore[type-var]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def assert_whole(page: Path) -> None:
    text = page.read_text()
    assert "train-loss" in text, "the curve, which is in the artifact"
    assert "corpus-dropped" in text, "likewise the corpus' card"


@pytest.mark.parametrize("place", ["demo", f"{ASIDE}/demo"])
def test_a_run_is_told_whole_from_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    run = run_in(tmp_path / "runs" / place, tmp_path / "runs")
    monkeypatch.chdir(run)
    command(report, ".")
    assert_whole(run / "report.html")
    assert find_corpus(Path(".")) == tmp_path / "runs" / STORE / "f-corpus"
    assert all(artifact is not None for _, artifact in artifacts_of_run(Path(".")))


def test_a_run_that_was_moved_away_and_linked_to_keeps_its_store(tmp_path: Path) -> None:
    run = run_in(tmp_path / "runs" / "demo", tmp_path / "runs")
    (tmp_path / "large disk").mkdir()
    moved = run.rename(tmp_path / "large disk" / "demo")
    run.symlink_to(moved)
    command(report, run)
    assert_whole(run / "report.html")
    assert find_corpus(run) == tmp_path / "runs" / STORE / "f-corpus"


def test_a_run_is_told_by_its_name_from_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that only happens to be called like it is not in its way."""
    run = run_in(tmp_path / "runs" / "demo", tmp_path / "runs")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command(report, "demo").strip() == "runs/demo/report.html"
    assert_whole(run / "report.html")


def test_where_the_results_of_a_run_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path / "runs" / "demo", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert command(list_runs, "demo").splitlines() == [
        f"corpus  corpus  runs/{STORE}/f-corpus",
        f"train  checkpoint  runs/{STORE}/f-train",
    ]
    tell(Console(width=200), run)
    assert f"checkpoint of train: runs/{STORE}/f-train\n" in capsys.readouterr().out
    (tmp_path / "runs" / STORE / "f-train").rename(tmp_path / "away")
    assert "train: no longer in the store" in command(list_runs, run)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("model.base", []),
        ("model.base corpus.corpus", ["corpus"]),
        ("model.base corpus.corpus train.train moe.mixture", ["mixture"]),
        ("model.base corpus.corpus train.train export.gguf quantize.q4 export.hf", ["gguf", "hf"]),
    ],
)
def test_what_a_run_was_made_for(made: str, told: list[str]) -> None:
    """Every bundle, else the last model that it made, else its corpus."""
    kinds = {"corpus": "corpus", "export": "bundle"}
    stages = []
    for kind, name in (one.split(".") for one in made.split()):
        record = StageRecord(name, kind, name, {}, {}, {}, {}, False, 0, [])
        stages.append(FinishedStage(record, Artifact(kinds.get(kind, "checkpoint"), Path(name), name, name, kind)))
    assert [one.stage for one in results(RunStory("run", stages, {}, {}, "", False))] == told


def test_the_folder_of_a_recipe_is_no_run(tmp_path: Path) -> None:
    run_in(tmp_path / "demo", tmp_path)
    write_text(tmp_path / "recipes" / "recipe.yaml", "name: never-run\n")
    assert is_run(tmp_path / "demo")
    assert not is_run(tmp_path / "recipes")
    assert "recipes" not in command(list_runs, "--runs", tmp_path)
    with pytest.raises(LlmtuneError, match="no finished stage to report on"):
        command(report, tmp_path / "recipes")


def test_a_run_and_one_aside_have_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "recipe.yaml", "name: demo\nmodel: model\nstages: [export]\n")
    monkeypatch.chdir(tmp_path)
    recipe, runs = load_recipe(Path("recipe.yaml")), Path("runs")
    stores = [Run(recipe, runs, Display(), folder=folder).store for folder in (None, runs / ASIDE / "demo")]
    assert [store.folder for store in stores] == [tmp_path / "runs" / STORE] * 2

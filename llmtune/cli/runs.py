"""`llmtune runs`: the runs below a folder and how far each is; what one of them made, and where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmtune.cli.options import RunsOption


def runs(
    run: Annotated[Path | None, typer.Argument(help="A run's name or folder: say where what it made lies.")] = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """List runs with their state, stages done, and when they last did something; of one run, the folder of what each
    stage made (of a search, of each trial)."""
    if run is None:
        _list(runs)
    else:
        _tell(run, runs)


def _tell(run: Path, runs: Path) -> None:
    from llmtune.cli.target import find_run
    from llmtune.report import collect
    from llmtune.search.record import StudyFolder
    from llmtune.words import from_here

    folder = find_run(run, runs).absolute()
    story, study = collect(folder), StudyFolder(folder)
    made: list[tuple[str, str, Path]] = []
    for trial in study.finished():
        made.append((f"trial {trial.number + 1}", "run", study.trial(trial.number)))
    made.append(("best", "recipe", study.best))
    for stage in story.stages:
        if stage.artifact is None:
            typer.echo(f"{stage.record.id}: no longer in the store")
        elif stage.artifact.kind != "scores":
            made.append((stage.record.id, stage.artifact.kind, stage.artifact.folder))
    for name, kind, place in made:
        if place.exists():  # a trial can fail before its run begins
            typer.echo(f"{name}  {kind}  {from_here(place)}")


def _list(runs: Path) -> None:
    import datetime

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from llmtune.run.state import run_states

    console = Console()
    states = run_states(runs)
    if not states:
        console.print(f"no runs below {runs}; start one with: llmtune run RECIPE", highlight=False, markup=False)
        return
    table = Table()
    for column in ("run", "state", "done", "last stage", "last event"):
        table.add_column(column)
    for state in states:
        when = datetime.datetime.fromtimestamp(state.last_event).isoformat(" ", "seconds") if state.last_event else "–"
        table.add_row(escape(state.name), state.state, f"{state.done} of {state.stages}", state.last_stage or "–", when)
    console.print(table)

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
    from rich.console import Console

    from llmtune.cli.target import find_run
    from llmtune.report import collect
    from llmtune.search.record import StudyFolder
    from llmtune.words import from_here

    console, folder = Console(), find_run(run, runs).absolute()
    study = StudyFolder(folder)
    for trial in study.finished():
        console.print(
            f"trial {trial.number + 1}  run  {from_here(study.trial(trial.number))}", soft_wrap=True, markup=False
        )
    if study.best.is_file():
        console.print(f"best  recipe  {from_here(study.best)}", soft_wrap=True, markup=False)
    for stage in collect(folder).stages:
        if stage.artifact is None:
            console.print(f"{stage.record.id}: no longer in the store", highlight=False, markup=False)
        elif stage.artifact.kind != "scores":
            line = f"{stage.record.id}  {stage.artifact.kind}  {from_here(stage.artifact.folder)}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)


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

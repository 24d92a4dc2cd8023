"""`llmtune report`: write a run's report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmtune.cli.options import RunsOption


def report(
    run: Annotated[Path, typer.Argument(help="A run's name or folder.")], runs: RunsOption = Path("runs")
) -> None:
    """Write the HTML report of a run from what is finished in it."""
    from llmtune.report import collect, write_report
    from llmtune.run.folder import is_run

    folder = runs / run if is_run(runs / run) and not is_run(run) else run
    typer.echo(write_report(folder, collect(folder)))

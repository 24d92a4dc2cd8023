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
    from llmtune.cli.target import find_run
    from llmtune.report import collect, write_report

    folder = find_run(run, runs)
    typer.echo(write_report(folder, collect(folder)))

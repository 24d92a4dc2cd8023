"""`llmtune run`: run a recipe, and show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtune.cli.options import Overrides, RecipeArgument, RunsOption

if TYPE_CHECKING:
    from rich.console import Console


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    only: Annotated[str | None, typer.Option(help="Run this one stage (and its evaluation).")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Start with this stage; earlier ones are done.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Make the chosen stages anew, even when done.")] = False,
    runs: RunsOption = Path("runs"),
) -> None:
    """Run a recipe. What is done already is skipped, so the same command goes on after a stop, a crash or a change.

    Ctrl-C once stops at the next safe point with everything saved; twice stops at once.
    """
    from rich.console import Console

    from llmtune.recipe import load_recipe
    from llmtune.run import Run, Selection
    from llmtune.run.display import TerminalDisplay
    from llmtune.run.process import rank
    from llmtune.run.ranks import follow

    loaded = load_recipe(recipe, overrides or [])
    if rank() > 0:
        raise typer.Exit(follow(runs / loaded.name))
    console = Console()
    display = TerminalDisplay(console)
    execution = Run(loaded, runs, display)
    with execution.locked():
        try:
            execution.go(Selection(only=only, first=first, last=until, again=again))
        finally:
            display.close()
            _tell(console, execution.files.folder)


def _tell(console: Console, folder: Path) -> None:
    """Write the report and show the tables of what is finished, also after a failure, whose error must stay the last
    word: what goes wrong here is a line of its own."""
    from llmtune.errors import LlmtuneError
    from llmtune.report import write_report
    from llmtune.run.folder import RunFolder

    try:
        if RunFolder(folder).records():
            write_report(folder)
            _show_summary(console, folder)
    except (LlmtuneError, OSError) as error:
        console.print(f"no report was written: {error}", highlight=False, markup=False)


def _show_summary(console: Console, folder: Path) -> None:
    from llmtune.report.summary import score_table, stage_table

    console.print()
    console.print(stage_table(folder))
    scores = score_table(folder)
    if scores is not None:
        console.print(scores)
    console.print(f"report: [bold]{folder / 'report.html'}[/]", soft_wrap=True)

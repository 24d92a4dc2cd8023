"""`llmtune run`: run a recipe, and show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtune.cli.options import Overrides, RecipeArgument, RunsOption

if TYPE_CHECKING:
    from rich.console import Console

    from llmtune.report.collect import RunStory


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

    A recipe with `search:` runs its study, and leaves a recipe of the best trial.

    Ctrl-C once stops at the next safe point with everything saved; twice stops at once.
    """
    from rich.console import Console

    from llmtune.recipe.load import read_written
    from llmtune.run.display import TerminalDisplay
    from llmtune.run.folder import told_to_the_user
    from llmtune.run.process import die_with_parent, rank, world_size
    from llmtune.run.ranks import follow
    from llmtune.run.runner import Run
    from llmtune.run.selection import Selection

    written = read_written(recipe, overrides or [])
    loaded, selection = written.recipe(), Selection(only=only, first=first, last=until, again=again)
    if loaded.search is not None:
        from llmtune.cli.study import run_study

        return run_study(written, runs, selection)
    if world_size() > 1:  # such a launcher passes signals on and waits; when it is killed nobody else ends us
        die_with_parent()
    if rank() > 0:
        with told_to_the_user(runs):
            raise typer.Exit(follow(runs / loaded.name))
    console = Console()
    display = TerminalDisplay(console)
    execution = Run(loaded, runs, display)
    with execution.locked():
        try:
            execution.go(selection)
        finally:
            display.close()
            tell(console, execution.files.folder)


def tell(console: Console, folder: Path) -> None:
    """Write the report and show the tables of what is finished, also after a failure, whose error must stay the last
    word: what goes wrong here, be it a fault of ours, is a line of its own and changes nothing of the run's end."""
    from llmtune.report import collect, write_report
    from llmtune.run.folder import RunFolder
    from llmtune.search.record import StudyFolder

    try:
        if RunFolder(folder).records() or StudyFolder(folder).finished():
            story = collect(folder)
            report = write_report(folder, story)
            _show_summary(console, folder, story, report)
    except Exception as error:
        console.print(f"no report was written: {str(error) or type(error).__name__}", highlight=False, markup=False)


def _show_summary(console: Console, folder: Path, story: RunStory, report: Path) -> None:
    from rich.markup import escape

    from llmtune.report.study import trial_table
    from llmtune.report.summary import results, score_table, stage_table
    from llmtune.words import from_here

    console.print()
    for table in (trial_table(folder), stage_table(story), score_table(story)):
        if table is not None:
            console.print(table)
    for result in results(story):
        place = escape(from_here(result.folder))
        console.print(f"{result.kind} of {escape(result.stage)}: [bold]{place}[/]", soft_wrap=True, highlight=False)
    console.print(f"report: [bold]{escape(str(report))}[/]", soft_wrap=True)

"""What `llmtune run` does with a recipe that has `search:`."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from llmtune.cli.run import tell
from llmtune.errors import RecipeError
from llmtune.recipe.load import Written
from llmtune.run.display import TerminalDisplay
from llmtune.run.selection import Selection
from llmtune.search.study import Study


def run_study(written: Written, runs: Path, selection: Selection) -> None:
    """Run the study, show its trials, and say how to run the best of them."""
    if selection != Selection():
        raise RecipeError(
            "--only, --from, --until and --again choose stages, and a recipe with `search:` runs trials",
            where="command line",
            fix="leave them out; they go with the recipe of the best trial, which the study leaves",
        )
    console = Console()
    display = TerminalDisplay(console)
    study = Study(written, runs, display)
    with study.run.locked():
        try:
            study.go()
        finally:
            tell(console, study.run.files.folder)
    place = ["--runs", str(runs)] if runs != Path("runs") else []
    command = shlex.join(["llmtune", "run", str(study.files.best), *place])
    console.print(f"the best trial's recipe, whole: [bold]{escape(command)}[/]", soft_wrap=True, highlight=False)

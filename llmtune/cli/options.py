"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe, or a folder that holds recipe.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Change fields of the recipe: train.tokens=100000 seed=3"),
]
RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="LLMTUNE_RUNS", help="Where runs and the artifact store are kept.")
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code that comes with the model; only of authors you trust."),
]

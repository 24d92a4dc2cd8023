"""`llmtune recipes`: those that come along, and copying one to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    invoke_without_command=True,
    help="List the recipes that come along; `llmtune recipes copy NAME TARGET` copies one to start from.",
    rich_markup_mode="rich",
    add_completion=False,
)


@app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that come along; `llmtune recipes copy NAME TARGET` copies one to start from."""
    if context.invoked_subcommand is not None:
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from llmtune.recipe.shipped import shipped_recipes

    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it does")
    found = shipped_recipes()
    for recipe in found:
        table.add_row(recipe.name, escape(recipe.about))
    console.print(table)
    if found:
        console.print("Start from one: [bold]llmtune recipes copy NAME TARGET[/bold]", highlight=False)
    else:
        console.print("No recipes were installed with this package; they are in its source, folder recipes/.")


@app.command("copy")
def copy(
    name: Annotated[str, typer.Argument(help="One of the list.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="A .yaml file to make, or a folder.", show_default=False)],
) -> None:
    """Copy a recipe that comes along, to start from."""
    from llmtune.recipe.shipped import copy_recipe

    made = copy_recipe(name, target)
    typer.echo(f"wrote {made.path}, named {made.name}; run it with: llmtune run {made.path}")

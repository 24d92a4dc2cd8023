"""`llmtune validate`: is this a recipe that can run, and what would it do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtune.cli.options import Overrides, RecipeArgument

if TYPE_CHECKING:
    from rich.table import Table

    from llmtune.recipe import Node


def validate(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Check a recipe: spelling, types, combinations, and that every stage gets its inputs.

    Prints its stages in the order of the run. Every problem is told at once as file:line:column; exit code 2 then.
    Looks into no document and no model: `llmtune plan` does. A recipe may be written before they are there; a path at
    which there is nothing now is told as a note.
    """
    from rich.console import Console
    from rich.markup import escape

    from llmtune.recipe import load_recipe, resolve_inputs
    from llmtune.recipe.paths import missing_paths

    loaded = load_recipe(recipe, overrides or [])
    console = Console()
    console.print(_table(resolve_inputs(loaded)))
    search = f" A search over {', '.join(loaded.search.space)}." if loaded.search else ""
    gates = len(loaded.gates) + sum(len(stage.gates) for stage in loaded.stages)
    console.print(
        f"[green]✓[/] [bold]{loaded.name}[/]: a valid recipe. Model {escape(loaded.model.name)}, seed {loaded.seed}, "
        f"{'scores after every model' if loaded.evaluate else 'no evaluation'}, {gates} gates.{search}",
        highlight=False,
        soft_wrap=True,
    )
    for name, path in missing_paths(loaded):
        console.print(f"note: {name}: {path} does not exist here yet", markup=False, highlight=False, soft_wrap=True)


def _table(nodes: list[Node]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("stage", "takes", "makes"):
        table.add_column(column)
    for node in nodes:
        takes = ", ".join(f"{need} ← {source}" for need, source in node.inputs.items())
        style = "dim" if node.stage.kind in {"model", "evaluate"} else None
        table.add_row(node.id, takes or "–", node.stage.makes, style=style)
    return table

"""`llmtune plan`: what each stage will need on this machine, and whether it fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmtune.cli.options import Overrides, RecipeArgument, RunsOption

if TYPE_CHECKING:
    from rich.table import Table

    from llmtune.run.planning import PlannedNode


def plan(recipe: RecipeArgument, overrides: Overrides = None, runs: RunsOption = Path("runs")) -> None:
    """Say what each stage will need in memory, disk and time here, without loading weights or starting anything.

    Exit code 1 when a stage cannot work on this machine.
    """
    from rich.console import Console
    from rich.markup import escape

    from llmtune.recipe import load_recipe
    from llmtune.run.display import Display, human_bytes, human_seconds
    from llmtune.run.planning import doubts, notes_of, problems_of, remaining_seconds
    from llmtune.run.runner import Run

    console = Console()
    execution = Run(load_recipe(recipe, overrides or []), runs, Display())
    nodes, machine = execution.plan(), execution.machine
    console.print(_table(nodes))
    free = machine.disk_free(runs)
    accelerators = ", ".join(gpu.name for gpu in machine.accelerators) or "no accelerator"
    console.print(
        f"This machine: {machine.cores} cores, {human_bytes(machine.memory)} memory, {human_bytes(free)} disk free, "
        f"{accelerators}. Still to do: about {human_seconds(remaining_seconds(nodes))}.",
        highlight=False,
        markup=False,
    )
    todo = [node for node in nodes if node.artifact is None]
    doubtful, problems = doubts(todo, machine, runs), problems_of(todo)
    told = {"[dim]note[/]": notes_of(nodes), "[yellow]does not fit[/]": doubtful, "[red]cannot run here[/]": problems}
    for mark, sentences in told.items():
        for sentence in sentences:
            console.print(f"{mark} {escape(sentence)}", highlight=False, soft_wrap=True)
    if problems or doubtful:
        raise typer.Exit(1)
    console.print("[green]It fits.[/]")


def _table(nodes: list[PlannedNode]) -> Table:
    from rich import box
    from rich.table import Table

    from llmtune.run.display import human_bytes, human_seconds

    # What takes what is told by `validate`; this is as wide as a narrow window.
    table = Table(title="Plan", title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("stage")
    for column in ("parameters", "size", "memory", "disk", "time"):
        table.add_column(column, justify="right")
    for node in nodes:
        makes, estimate = node.plan.makes, node.plan
        time = "done" if node.artifact else human_seconds(estimate.seconds) if estimate.seconds is not None else "?"
        table.add_row(
            node.node.id,
            f"{makes.shape.parameters / 1e6:.1f} M" if makes.shape else "–",
            human_bytes(makes.bytes) if makes.bytes else "–",
            human_bytes(estimate.memory),
            human_bytes(estimate.disk),
            time,
        )
    return table

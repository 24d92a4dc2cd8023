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

    from llmtune.recipe import load_recipe
    from llmtune.run import Run
    from llmtune.run.display import Display, human_bytes, human_seconds
    from llmtune.run.runner import remaining_seconds

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
    )
    todo = [node for node in nodes if node.artifact is None]
    doubts = [
        f"stage '{node.node.id}' may need {human_bytes(node.plan.memory)} of memory"
        for node in todo
        if node.plan.memory > machine.memory
    ]
    disk = sum(node.plan.disk for node in todo)
    if disk > free:
        doubts.append(f"the run needs about {human_bytes(disk)} of disk; {human_bytes(free)} are free")
    for node in nodes:
        for note in node.plan.notes:
            console.print(f"[dim]note[/] {node.node.id}: {note}", highlight=False, soft_wrap=True)
    for doubt in doubts:
        console.print(f"[yellow]does not fit[/] {doubt}", highlight=False, soft_wrap=True)
    problems = [f"{node.node.id}: {problem}" for node in todo for problem in node.plan.problems]
    for problem in problems:
        console.print(f"[red]cannot run here[/] {problem}", highlight=False, soft_wrap=True)
    if problems or doubts:
        raise typer.Exit(1)
    console.print("[green]It fits.[/]")


def _table(nodes: list[PlannedNode]) -> Table:
    from rich.table import Table

    from llmtune.run.display import human_bytes, human_seconds

    table = Table(title="Plan", title_justify="left")
    for column in ("stage", "takes", "makes"):
        table.add_column(column)
    for column in ("parameters", "size", "memory", "disk", "time"):
        table.add_column(column, justify="right")
    for node in nodes:
        makes, estimate = node.plan.makes, node.plan
        time = "done" if node.artifact else human_seconds(estimate.seconds) if estimate.seconds is not None else "?"
        table.add_row(
            node.node.id,
            ", ".join(node.node.inputs.values()) or "–",
            makes.kind,
            f"{makes.shape.parameters / 1e6:.1f} M" if makes.shape else "–",
            human_bytes(makes.bytes) if makes.bytes else "–",
            human_bytes(estimate.memory),
            human_bytes(estimate.disk),
            time,
        )
    return table

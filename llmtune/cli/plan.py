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

    from llmtune.recipe.load import read_written
    from llmtune.run.display import Display
    from llmtune.run.planning import doubts, notes_of, problems_of, remaining_seconds
    from llmtune.run.runner import Run
    from llmtune.words import human_bytes, human_seconds

    console = Console()
    written = read_written(recipe, overrides or [])
    loaded = written.recipe()
    execution, search = Run(loaded, runs, Display()), None
    if loaded.search is not None:
        from llmtune.search.study import Study

        search = Study(written, runs, Display()).forecast()
    nodes, machine = search.trial if search else execution.plan(), execution.machine
    console.print(_table(nodes, "Plan of a trial" if search else "Plan"))
    if search:
        console.print(search.in_words(), highlight=False, markup=False, soft_wrap=True)
    seconds = search.seconds if search else remaining_seconds(nodes)
    free = machine.disk_free(runs)
    accelerators = ", ".join(gpu.name for gpu in machine.accelerators) or "no accelerator"
    console.print(
        f"This machine: {machine.cores} cores, {human_bytes(machine.memory)} memory, {human_bytes(free)} disk free, "
        f"{accelerators}. Still to do: about {human_seconds(seconds)}.",
        highlight=False,
        markup=False,
    )
    todo = [node for node in nodes if node.artifact is None]
    doubtful, problems = doubts(todo, machine, runs), problems_of(todo)
    if search and search.bytes > free:
        doubtful.append(f"the trials leave about {human_bytes(search.bytes)} on the disk; {human_bytes(free)} are free")
    told = {"[dim]note[/]": notes_of(nodes), "[yellow]does not fit[/]": doubtful, "[red]cannot run here[/]": problems}
    for mark, sentences in told.items():
        for sentence in sentences:
            console.print(f"{mark} {escape(sentence)}", highlight=False, soft_wrap=True)
    if problems or doubtful:
        raise typer.Exit(1)
    console.print("[green]It fits.[/]")


def _table(nodes: list[PlannedNode], title: str) -> Table:
    from rich import box
    from rich.table import Table

    from llmtune.words import human_bytes, human_seconds

    # What takes what is told by `validate`; this is as wide as a narrow window.
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
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

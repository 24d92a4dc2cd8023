"""`llmtune runs`: the runs below a folder and how far each is."""

from __future__ import annotations

from pathlib import Path

from llmtune.cli.options import RunsOption


def runs(runs: RunsOption = Path("runs")) -> None:
    """List runs with their state, stages done, and when they last did something."""
    import datetime

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from llmtune.run.state import run_states

    console = Console()
    states = run_states(runs)
    if not states:
        console.print(f"no runs below {runs}; start one with: llmtune run RECIPE", highlight=False, markup=False)
        return
    table = Table()
    for column in ("run", "state", "done", "last stage", "last event"):
        table.add_column(column)
    for state in states:
        when = datetime.datetime.fromtimestamp(state.last_event).isoformat(" ", "seconds") if state.last_event else "–"
        table.add_row(escape(state.name), state.state, f"{state.done} of {state.stages}", state.last_stage or "–", when)
    console.print(table)

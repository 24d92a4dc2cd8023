"""`llmtune doctor`: versions, devices, extras, and what will not work here."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from llmtune.cli.checks import Facts, Limit

CORE = ("torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "pyarrow", "pydantic", "numpy")


def doctor() -> None:
    """Show versions, devices, memory, disk and extras, and say what will not work here and why."""
    from rich.console import Console

    from llmtune.cli.checks import find_facts, limits

    facts = find_facts()
    console = Console(highlight=False)
    for table in (_machine(facts), _versions(), _extras(facts), _limits(limits(facts))):
        console.print(table)


def _machine(facts: Facts) -> Table:
    import psutil

    from llmtune.cli.checks import hub_access
    from llmtune.machine import BF16_FLAGS

    machine = facts.machine
    table = _plain("This machine")
    table.add_row("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    fast = sorted(machine.flags & {*BF16_FLAGS, "avx2", "avx512f", "amx_int8"})
    table.add_row("processor", f"{machine.cores} cores usable{': ' + ', '.join(fast) if fast else ''}")
    free = min(psutil.virtual_memory().available, machine.memory)
    table.add_row("memory", f"{machine.memory / 1e9:.1f} GB, {free / 1e9:.1f} GB free now")
    table.add_row("disk", f"{machine.disk_free(Path.cwd()) / 1e9:.1f} GB free in this folder")
    gpus = [
        f"{gpu.name}, {gpu.memory / 1e9:.0f} GB, compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        for gpu in machine.accelerators
    ]
    table.add_row("accelerators", _literal("\n".join(gpus)) or ", ".join(facts.torch_devices) or "none")
    table.add_row("model hub", _literal(hub_access()))
    return table


def _versions() -> Table:
    from llmtune import __version__
    from llmtune.run.environment import installed_version

    table = _plain("Versions")
    table.add_row("llmtune", __version__)
    table.add_row("python", f"{platform.python_version()} ({sys.implementation.name})")
    for package in CORE:
        table.add_row(package, installed_version(package) or "[red]not installed[/]")
    return table


def _extras(facts: Facts) -> Table:
    from llmtune.cli.checks import ENABLES

    table = _plain("Extras")
    table.add_column()
    for extra, purpose in ENABLES.items():
        lacking = facts.missing.get(extra, ())
        table.add_row(extra, "[yellow]–[/]" if lacking else "[green]✓[/]", purpose)
    return table


def _limits(found: list[Limit]) -> Table:
    table = _plain("Will not work here")
    if not found:
        table.add_row("[green]nothing[/]", "everything llmtune does can run on this machine")
    for limit in found:
        fix = f" [dim]→ {_literal(limit.fix)}[/]" if limit.fix else ""
        table.add_row(f"[yellow]{limit.what}[/]", _literal(limit.why) + fix)
    return table


def _plain(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=False, max_width=34)
    table.add_column(overflow="fold")
    return table


def _literal(text: str) -> str:
    """Square brackets are markup to rich; `llmtune[corpus]` is not."""
    from rich.markup import escape

    return escape(text)

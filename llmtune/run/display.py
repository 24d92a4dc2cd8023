"""What a person sees while a recipe runs: one line a stage, a progress bar with the time left, notes as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from llmtune.words import human_seconds

if TYPE_CHECKING:
    from llmtune.run.folder import StageRecord
    from llmtune.run.planning import PlannedNode


class Display:
    """The silent display, for library use."""

    def started(self, planned: PlannedNode) -> None: ...
    def skipped(self, planned: PlannedNode, record: StageRecord) -> None: ...
    def finished(self, planned: PlannedNode, record: StageRecord) -> None: ...
    def event(self, event: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def gate(self, sentence: str, ok: bool) -> None: ...
    def trial(self, text: str) -> None: ...
    def close(self) -> None: ...


class TerminalDisplay(Display):
    """Rich output on a terminal; plain lines, without bars, where output goes to a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def started(self, planned: PlannedNode) -> None:
        seconds = planned.plan.seconds
        about = f" [dim](about {human_seconds(seconds)})[/]" if seconds and seconds >= 3 else ""
        self.console.print(f"[bold cyan]▶[/] [bold]{planned.node.id}[/]{about}")
        if self.console.is_terminal:
            columns = (
                TextColumn("  {task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("[dim]{task.fields[unit]}[/] [cyan]{task.fields[figures]}[/]"),
                TimeElapsedColumn(),
                TextColumn("[dim]left[/]"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self.console, transient=True)
            self._progress.start()

    def skipped(self, planned: PlannedNode, record: StageRecord) -> None:
        self.console.print(f"[green]✓[/] [bold]{planned.node.id}[/] [dim]done before[/]")

    def finished(self, planned: PlannedNode, record: StageRecord) -> None:
        self._end_bars()
        how = "found in the store" if record.reused else human_seconds(record.actual.get("seconds", 0.0))
        self.console.print(f"[green]✓[/] [bold]{planned.node.id}[/] [dim]{how}[/]")

    def event(self, event: dict[str, Any]) -> None:
        if event["event"] == "note":
            self.note(event["text"])
        elif event["event"] == "progress" and self._progress is not None:
            self._move(event)

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", style="dim", highlight=False, markup=False)

    def gate(self, sentence: str, ok: bool) -> None:
        self.console.print(f"  {'[green]✓ gate[/]' if ok else '[red]✗ gate[/]'} {escape(sentence)}", highlight=False)

    def trial(self, text: str) -> None:
        self.console.print(f"[bold]{escape(text)}[/]", highlight=False)

    def close(self) -> None:
        """Take the bars off the screen (a stage failed or was stopped)."""
        self._end_bars()

    def _move(self, event: dict[str, Any]) -> None:
        assert self._progress is not None
        what = event["what"]
        figures = escape(" ".join(f"{key}={_short(value)}" for key, value in event["figures"].items()))
        unit = escape(event["unit"])
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=event["total"], unit="", figures="")
        bar = self._bars[what]
        self._progress.update(bar, completed=event["done"], total=event["total"], unit=unit, figures=figures)
        if event["over"]:
            self._progress.remove_task(self._bars.pop(what))

    def _end_bars(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._bars.clear()


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

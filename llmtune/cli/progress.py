"""A monitor for commands that work in this process: its bars and notes on stderr, gone when the work is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from llmtune.monitor import Bar, Monitor


class TerminalMonitor(Monitor):
    """Use as a context manager around the work."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        task = self._progress.add_task(what, total=total, completed=int(done), figures="")
        try:
            yield _ProgressBar(self._progress, task)
        finally:
            self._progress.remove_task(task)

    def note(self, text: str) -> None:
        self._progress.console.print(text, style="dim", markup=False)


class _ProgressBar(Bar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, units: float = 1) -> None:
        self._progress.advance(self._task, units)

    def show(self, **figures: float | str) -> None:
        shown = " ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in figures.items()
        )
        self._progress.update(self._task, figures=shown)

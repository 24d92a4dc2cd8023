"""What a long job tells and asks while it works: progress, notes, records, and whether to stop.

The domain packages take a `Monitor` and know nothing of runs; `Monitor()` itself is silent, for notebooks and tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmtune.errors import Stopped


class Bar:
    """One progress bar. `advance` by units done; `show` replaces the few figures printed beside it (loss=2.31)."""

    def advance(self, units: float = 1) -> None: ...

    def show(self, **figures: float | str) -> None: ...


class Monitor:
    """The silent monitor; subclasses show and record."""

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        """A progress bar for the length of a `with` block; `done` is where a resumed job starts."""
        yield Bar()

    def note(self, text: str) -> None:
        """A sentence for the person: shown, logged, and kept for the report."""

    def record(self, kind: str, /, **fields: Any) -> None:
        """A machine-readable event (JSON values), appended to the run's events."""

    def stop_requested(self) -> bool:
        """Whether the user asked to stop; jobs ask at each safe point."""
        return False

    def safe_point(self) -> None:
        """Raise Stopped if the user asked to stop. Call where nothing is lost by stopping."""
        if self.stop_requested():
            raise Stopped()

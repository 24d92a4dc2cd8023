"""Engines for tests: they scramble words, and count what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmtune.augment.engine import RoundTrip


class ScramblingEngine:
    """Swaps neighbouring words, placeholders among them, so that most sentences change and stay alike; `spoil` may do
    worse to one. `killed_after`: raises KeyboardInterrupt in the call after so many."""

    identity: dict[str, Any] = {"engine": "scrambling"}

    def __init__(
        self, spoil: Callable[[str], str | None] | None = None, together: int = 8, killed_after: int | None = None
    ) -> None:
        self.together = together
        self.seen: list[str] = []
        self._spoil, self._left = spoil, killed_after

    def round_trips(self, segments: Sequence[str]) -> Iterator[RoundTrip | None]:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left = None if self._left is None else self._left - 1
        self.seen += segments
        for segment in segments:
            spoilt = self._spoil(segment) if self._spoil else segment
            yield None if spoilt is None else RoundTrip(f"pivot of {segment}", swapped(spoilt))

    def close(self) -> None: ...


def swapped(text: str) -> str:
    """The words of a text, each pair of neighbours exchanged."""
    words = text.split()
    for at in range(0, len(words) - 1, 2):
        words[at : at + 2] = reversed(words[at : at + 2])
    return " ".join(words)

"""The engine protocol: segments in, segments out, there and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RoundTrip:
    """A segment in the pivot language and back again, both masked.

    unknown: words that the translator did not know and left as they were
    broken:  words that it knew and could not say (they stand in the text as raw dictionary forms)
    """

    pivot: str
    text: str
    unknown: int = 0
    broken: int = 0


class Engine(Protocol):
    """A translator to a pivot language and back. What it makes of segments depends on nothing but those that are
    given to it together."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON value of all that decides its translations: versions, contents of its data; no path of the machine."""

    @property
    def together(self) -> int:
        """How many segments to give it at a time: what it made of fewer is lost when it is killed meanwhile."""

    def round_trips(self, segments: Sequence[str]) -> Iterator[RoundTrip | None]:
        """One for each masked segment (`segments.Segment.masked`), in order; None where the engine failed on it.

        Raises LlmtuneError when it fails altogether."""

    def close(self) -> None:
        """End its processes."""

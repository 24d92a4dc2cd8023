"""A text in other words: each sentence by its translation there and back, where that is good enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llmtune.augment.engine import RoundTrip
from llmtune.augment.gate import Gate, Verdict
from llmtune.augment.segments import Segment, pieces_of


@dataclass(frozen=True)
class Judged:
    """A sentence of a document, and what became of it. pivot: what it was in the other language."""

    segment: Segment
    verdict: Verdict
    pivot: str


@dataclass(frozen=True)
class Rewritten:
    """A document in other words, and the sentences that were translated for it."""

    text: str
    judged: list[Judged]

    @property
    def changed(self) -> float:
        """Share of its sentences that became others."""
        return sum(one.verdict.text is not None for one in self.judged) / max(len(self.judged), 1)


class Trips(Protocol):
    """Where the translation of a masked sentence is looked up: a memory, or a dictionary."""

    def __getitem__(self, segment: str, /) -> RoundTrip | None: ...


def rewritten(text: str, trips: Trips, gate: Gate) -> Rewritten:
    """The text with every sentence that passes the gate replaced; the others, and all that is no sentence, stay."""
    parts: list[str] = []
    judged: list[Judged] = []
    for piece in pieces_of(text):
        if isinstance(piece, str):
            parts.append(piece)
            continue
        trip = trips[piece.masked]
        verdict = gate.judge(piece, trip)
        judged.append(Judged(piece, verdict, trip.pivot if trip else ""))
        parts.append(piece.text if verdict.text is None else verdict.text)
    return Rewritten("".join(parts), judged)

"""The quality gate: each reason, and chrF as sacrebleu computes it."""

from __future__ import annotations

import pytest
from sacrebleu import sentence_chrf

from llmtune.augment import gate
from llmtune.augment.engine import RoundTrip
from llmtune.augment.gate import Gate
from llmtune.augment.segments import Segment, pieces_of
from llmtune.augment.settings import KeepSettings

SENTENCE = "The parameter `work_mem` sets how much memory a query may use."


def segment_of(text: str) -> Segment:
    (found,) = (piece for piece in pieces_of(text) if isinstance(piece, Segment))
    return found


@pytest.mark.parametrize(
    ("trip", "reason"),
    [
        (None, gate.FAILED),
        (RoundTrip("", "The parameter sets how much memory a query can use."), gate.LOST),
        (RoundTrip("", "The parameter [1] sets how much [1] memory a query can use."), gate.LOST),
        (RoundTrip("", "The parameter [1] sets how much MEMORY a query can use."), gate.ADDED),
        (RoundTrip("", "The parameter [1] sets how much memory 1 query can use."), gate.NUMBERS),
        (RoundTrip("", "The parameter [1] puts how much memory a query can use.", broken=1), gate.BROKEN),
        (RoundTrip("", "The parameter [1] puts how much memory a query can use.", unknown=2), gate.UNKNOWN),
        (RoundTrip("", "The parameter [1] sets memory."), gate.LENGTH),
        (RoundTrip("", "An argument [1] says what storage some question can have."), gate.MEANING),
        (RoundTrip("", "The parameter [1] sets how much memory a query may use."), gate.SAME),
        (RoundTrip("", "The [1] parameter sets how much memory, a query may use."), gate.SAME),
        (RoundTrip("", "The parameter [1] puts how much memory a query can use.", unknown=1), None),
    ],
)
def test_reasons(trip: RoundTrip | None, reason: str | None) -> None:
    verdict = Gate(KeepSettings()).judge(segment_of(SENTENCE), trip)
    assert verdict.reason == reason
    kept = "The parameter `work_mem` puts how much memory a query can use."
    assert verdict.text == (kept if reason is None else None)


def test_similarity_is_that_of_the_prose() -> None:
    verdict = Gate(KeepSettings()).judge(
        segment_of(SENTENCE), RoundTrip("", "The [1] puts how much memory a query uses.")
    )
    expected = sentence_chrf(
        "The puts how much memory a query uses.", ["The parameter sets how much memory a query may use."]
    ).score
    assert verdict.similarity == pytest.approx(expected / 100)

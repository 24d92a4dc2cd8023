"""The quality gate: which sentence that came back is kept, and why one is not.

chrF (Popović 2015; character n-grams up to 6, recall counting twice) is measured on the prose alone: protected spans
come back unchanged and would make every sentence look alike.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmtune.augment.engine import RoundTrip
from llmtune.augment.protect import PLACEHOLDER, protected_tokens, unmask
from llmtune.augment.segments import Segment, words_of
from llmtune.augment.settings import KeepSettings
from llmtune.extras import need

FAILED = "the engine failed on it"
LOST = "protected text lost"
ADDED = "protected text added"
NUMBERS = "numbers changed"
BROKEN = "words without a form"
UNKNOWN = "too many unknown words"
LENGTH = "length changed"
MEANING = "meaning lost"
SAME = "nothing gained"

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Verdict:
    """text: what takes the sentence's place; None where it is dropped, and then why. similarity: chrF of the prose, 0
    to 1; None where it was dropped before that was measured. came_back: what the engine made of it, for the report."""

    text: str | None
    reason: str | None = None
    detail: str = ""
    similarity: float | None = None
    came_back: str = ""


class Gate:
    """Judges sentences by the settings."""

    def __init__(self, settings: KeepSettings) -> None:
        self._keep = settings

    def judge(self, segment: Segment, trip: RoundTrip | None) -> Verdict:
        """Whether the translated sentence may stand in the place of the original."""
        if trip is None:
            return Verdict(None, FAILED)
        text = unmask(trip.text, segment.spans)
        if text is None:
            return Verdict(None, LOST, came_back=trip.text)
        similarity = self._similarity(segment.masked, trip.text)
        reason, detail = self._fault(segment, trip, text, similarity)
        return Verdict(None if reason else text, reason, detail, similarity, came_back=text)

    def _fault(self, segment: Segment, trip: RoundTrip, text: str, similarity: float) -> tuple[str | None, str]:
        keep = self._keep
        before, after = Counter(_NUMBER.findall(segment.text)), Counter(_NUMBER.findall(text))
        if before != after:
            return NUMBERS, ", ".join(sorted((before - after) + (after - before)))
        tokens = protected_tokens(segment.text), protected_tokens(text)
        if tokens[0] != tokens[1]:  # what was protected is there; the translator has made more that looks like it
            return ADDED, ", ".join(sorted((tokens[1] - tokens[0]) + (tokens[0] - tokens[1])))
        if trip.broken:
            return BROKEN, f"{trip.broken}"
        unknown = trip.unknown / len(segment.words)
        if unknown > keep.max_unknown:
            return UNKNOWN, f"{unknown:.0%} of the words, {keep.max_unknown:.0%} allowed"
        lengths = len(_prose(segment.masked)), len(_prose(trip.text))
        ratio = max(lengths) / max(min(lengths), 1)
        if ratio > keep.max_length_ratio:
            return LENGTH, f"{ratio:.2f} times, {keep.max_length_ratio} allowed"
        if similarity < keep.min_similarity:
            return MEANING, f"chrF {similarity:.2f}, at least {keep.min_similarity} asked for"
        if similarity > keep.max_similarity or words_of(segment.masked) == words_of(trip.text):
            return SAME, f"chrF {similarity:.2f}, at most {keep.max_similarity} asked for"
        return None, ""

    @cached_property
    def _chrf(self) -> Any:
        need("sacrebleu", "judging translations")
        from sacrebleu.metrics import CHRF

        return CHRF()

    def _similarity(self, original: str, translated: str) -> float:
        return float(self._chrf.sentence_score(_prose(translated), [_prose(original)]).score) / 100


def _prose(masked: str) -> str:
    return " ".join(PLACEHOLDER.sub(" ", masked).split())

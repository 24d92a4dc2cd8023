"""Which pairs of all documents together are kept, and how often they are read.

A question with two answers is none that can be learned; what was answered already is not asked again, also not in
another split; no document gives too many; and the whole has its share of the training text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest

from llmtune.augment.instruct.gate import MORE, SAID, SHARE, TWICE
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.sheet import Judged, Sheet
from llmtune.corpus.mixture import MOST_REPEATS

Sheets = Callable[[], Iterable[Sheet]]  # read anew each time; the splits in order, train first


class Choice:
    """The reasons of all drafts, in the order of the sheets."""

    def __init__(self, settings: InstructSettings, sheets: Sheets, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._answers: dict[bytes, bytes | None] = {}  # of each question; None where it has several
        self._said: set[bytes] = set()
        for one in _kept(sheets()):
            question, answer = _digest(one.draft.question), _digest(one.draft.answer)
            if self._answers.setdefault(question, answer) != answer:
                self._answers[question] = None
        self._reasons = [reason for sheet in sheets() for reason in self._reasons_of(sheet)]
        self._answers.clear()
        self._said.clear()

    def judged(self, sheets: Iterable[Sheet]) -> Iterator[tuple[Sheet, tuple[Judged, ...]]]:
        """The sheets with the reasons as they are now; `sheets`: all of them."""
        reasons = iter(self._reasons)
        for sheet in sheets:
            yield sheet, tuple(Judged(one.draft, next(reasons)) for one in sheet.judged)

    def share(self, sheets: Iterable[Sheet], documents: float, sizes: Callable[[Judged], int]) -> tuple[float, bool]:
        """Bring the training pairs to their share of what an epoch reads; `sheets` are those of train, `documents` the
        characters read of the rest. Returns how often a pair is read for once that its document is, and whether that
        makes the share."""
        if self._settings.share is None:
            return 1.0, True
        wanted = self._settings.share / (1 - self._settings.share) * documents
        places: list[tuple[bytes, int, float]] = []
        for place, (sheet, one) in enumerate(_all(sheets)):
            if self._reasons[place] is None:
                places.append((self._rank(one), place, sizes(one) * sheet.repeats))
        together = sum(size for _, _, size in places)
        if not together:
            return 1.0, False
        if together <= wanted:
            return min(wanted / together, MOST_REPEATS), wanted <= MOST_REPEATS * together
        left = wanted
        for _, place, size in sorted(places):
            if size > left:
                self._reasons[place] = SHARE
            else:
                left -= size
        return 1.0, True

    def _reasons_of(self, sheet: Sheet) -> list[str | None]:
        reasons = [one.reason or self._fault(one) for one in sheet.judged]
        by_rule: dict[str, list[int]] = {}
        for place, one in enumerate(sheet.judged):
            if reasons[place] is None:
                by_rule.setdefault(one.draft.rule, []).append(place)
        queues = [sorted(places, key=lambda place: self._rank(sheet.judged[place])) for places in by_rule.values()]
        turns = [place for turn in zip_longest(*queues) for place in turn if place is not None]
        for place in turns[self._settings.pairs_per_document :]:
            reasons[place] = MORE
        return reasons

    def _fault(self, one: Judged) -> str | None:
        if self._answers[_digest(one.draft.question)] is None:
            return TWICE
        answer = _digest(one.draft.answer)
        if answer in self._said:
            return SAID
        self._said.add(answer)
        return None

    def _rank(self, one: Judged) -> bytes:
        return hashlib.sha256(f"{self._seed}\0{one.draft.question}\0{one.draft.answer}".encode()).digest()


def _all(sheets: Iterable[Sheet]) -> Iterator[tuple[Sheet, Judged]]:
    return ((sheet, one) for sheet in sheets for one in sheet.judged)


def _kept(sheets: Iterable[Sheet]) -> Iterator[Judged]:
    return (one for _, one in _all(sheets) if one.reason is None)


def _digest(text: str) -> bytes:
    """Of the words, whatever the case and the spaces."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()[:16]

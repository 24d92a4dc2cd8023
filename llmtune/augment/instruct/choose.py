"""Which pairs of all documents together are kept, and how often they are read.

A question with two answers is none that can be learned; what was answered already is not asked again, also not in
another split, nor nearly so where it is held out; no document gives too many; and the whole has its share of the
training text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest

from llmtune.augment.instruct.copies import near_copies
from llmtune.augment.instruct.gate import MORE, NEAR, SAID, SHARE, TWICE
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.sheet import Judged, Sheet
from llmtune.corpus.mixture import MOST_REPEATS
from llmtune.corpus.store import SPLITS

HELD_OUT = tuple(split for split in SPLITS if split != "train")


class Choice:
    """The reasons of all drafts, split by split: what is trained on is chosen first, and the rest beside it.

    often: how often a pair of train is read for once that its document is; reached: whether that makes the share.
    """

    def __init__(
        self,
        settings: InstructSettings,
        sheets: Callable[[str], Iterable[Sheet]],
        size: Callable[[Judged], int],
        documents: float,
        seed: int,
    ) -> None:
        """sheets: of a split, read anew each time; size: characters of a pair; documents: the characters that an epoch
        reads of the rest."""
        self._settings, self._sheets, self._seed = settings, sheets, seed
        self._answers: dict[bytes, bytes | None] = {}  # of each question; None where it has several
        for split in SPLITS:
            for one in self._passed(split):
                question, answer = _digest(one.draft.question), _digest(one.draft.answer)
                if self._answers.setdefault(question, answer) != answer:
                    self._answers[question] = None
        self._reasons = {"train": self._reasons_of("train", set(), set())}
        self.often, self.reached = self._share(size, documents)
        trained = (one.draft.answer for _, one in self._all("train") if one.reason is None)
        said = set(map(_digest, trained))  # without those that the share has left out
        near = self._near_trained()
        for split in HELD_OUT:
            self._reasons[split] = self._reasons_of(split, said, near)
        self._answers.clear()

    def judged(self, split: str) -> Iterator[tuple[Sheet, tuple[Judged, ...]]]:
        """The sheets of a split with the reasons as they are now."""
        reasons = iter(self._reasons[split])
        for sheet in self._sheets(split):
            yield sheet, tuple(Judged(one.draft, next(reasons)) for one in sheet.judged)

    def _share(self, size: Callable[[Judged], int], documents: float) -> tuple[float, bool]:
        """Bring the training pairs to their share of what an epoch reads; `often` and `reached`."""
        if self._settings.share is None:
            return 1.0, True
        wanted = self._settings.share / (1 - self._settings.share) * documents
        places = [
            (self._rank(one), place, size(one) * sheet.repeats)
            for place, (sheet, one) in enumerate(self._all("train"))
            if one.reason is None
        ]
        together = sum(characters for _, _, characters in places)
        if not together:
            return 1.0, False
        if together <= wanted:
            return min(wanted / together, MOST_REPEATS), wanted <= MOST_REPEATS * together
        left = wanted
        for _, place, characters in sorted(places):
            if characters > left:
                self._reasons["train"][place] = SHARE
            else:
                left -= characters
        return 1.0, True

    def _near_trained(self) -> set[bytes]:
        """Held-out answers that nearly say what a pair of train says."""
        held_out = ((_digest(one.draft.answer), one.draft.answer) for split in HELD_OUT for one in self._passed(split))
        return near_copies(held_out, (one.draft.answer for _, one in self._all("train") if one.reason is None))

    def _reasons_of(self, split: str, said: set[bytes], near: set[bytes]) -> list[str | None]:
        """said: answers given already, to which those that are kept are added; near: those that are none beside
        them."""
        return [reason for sheet in self._sheets(split) for reason in self._of_sheet(sheet, said, near)]

    def _of_sheet(self, sheet: Sheet, said: set[bytes], near: set[bytes]) -> list[str | None]:
        reasons = [one.reason or self._asked_twice(one) for one in sheet.judged]
        by_rule: dict[str, list[int]] = {}
        for place, one in enumerate(sheet.judged):
            if reasons[place] is None:
                by_rule.setdefault(one.draft.rule, []).append(place)
        queues = [sorted(places, key=lambda place: self._rank(sheet.judged[place])) for places in by_rule.values()]
        kept = 0
        for place in (place for turn in zip_longest(*queues) for place in turn if place is not None):
            answer = _digest(sheet.judged[place].draft.answer)
            if answer in said:
                reasons[place] = SAID
            elif answer in near:
                reasons[place] = NEAR
            elif kept == self._settings.pairs_per_document:
                reasons[place] = MORE
            else:
                said.add(answer)
                kept += 1
        return reasons

    def _asked_twice(self, one: Judged) -> str | None:
        return TWICE if self._answers[_digest(one.draft.question)] is None else None

    def _all(self, split: str) -> Iterator[tuple[Sheet, Judged]]:
        return ((sheet, one) for sheet, judged in self.judged(split) for one in judged)

    def _passed(self, split: str) -> Iterator[Judged]:
        """Those that are pairs by themselves."""
        return (one for sheet in self._sheets(split) for one in sheet.judged if one.reason is None)

    def _rank(self, one: Judged) -> bytes:
        return hashlib.sha256(f"{self._seed}\0{one.draft.question}\0{one.draft.answer}".encode()).digest()


def _digest(text: str) -> bytes:
    """Of the words, whatever the case and the spaces."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()[:16]

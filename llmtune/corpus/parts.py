"""Documents that hold a part of another: paragraphs that stand, word for word, in both.

A signature of whole documents does not see that a short text stands inside a long one (their Jaccard similarity is
low), but a page in the test split that is a chapter of a page in the train split is a leak all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.shingles import Hashes, Words, mix

SHARED = 0.25  # of the shorter document's paragraphs, by size, from which two documents belong together
# Shorter paragraphs are phrases that stand anywhere: headings, "See also". A character of a script without spaces
# between words is half a word.
WORDS = 8
_BOILERPLATE = 20  # a paragraph in more documents than this says nothing of how they are related


@dataclass(frozen=True)
class Paragraphs:
    """Of some documents, each paragraph that is long enough, once a document. hashes, sizes (bytes), owners
    (number of the document): (P,) each."""

    hashes: NDArray[np.uint64]
    sizes: NDArray[np.uint32]
    owners: NDArray[np.uint32]
    documents: int

    def of(self, rows: NDArray[np.int64]) -> Paragraphs:
        """Those of some of the documents, which are numbered anew."""
        places = np.full(self.documents, -1, np.int64)
        places[rows] = np.arange(len(rows))
        owners = places[self.owners]
        stay = owners >= 0
        return Paragraphs(self.hashes[stay], self.sizes[stay], owners[stay].astype(np.uint32), len(rows))

    @classmethod
    def together(cls, parts: Sequence[Paragraphs]) -> Paragraphs:
        """Those of several lots of documents, which are numbered in order."""
        starts = np.cumsum([0, *(one.documents for one in parts)])
        return cls(
            np.concatenate([np.empty(0, np.uint64), *(one.hashes for one in parts)]),
            np.concatenate([np.empty(0, np.uint32), *(one.sizes for one in parts)]),
            np.concatenate(
                [np.empty(0, np.uint32)]
                + [(one.owners + start).astype(np.uint32) for one, start in zip(parts, starts[:-1], strict=True)]
            ),
            int(starts[-1]),
        )

    def replaced(self, rows: NDArray[np.int64], others: Paragraphs) -> Paragraphs:
        """With those of `others` for some of the documents, in their order."""
        stay = ~np.isin(self.owners, rows)
        return Paragraphs(
            np.concatenate([self.hashes[stay], others.hashes]),
            np.concatenate([self.sizes[stay], others.sizes]),
            np.concatenate([self.owners[stay], rows[others.owners].astype(np.uint32)]),
            self.documents,
        )

    def related(self) -> Iterator[tuple[int, int]]:
        """Pairs of documents, by number, that share at least SHARED of the shorter one's paragraphs."""
        hashes, sizes, owners = self.hashes, self.sizes, self.owners
        totals = np.bincount(owners, sizes, self.documents)
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
        standing = np.diff(starts, append=len(order))  # in how many documents each paragraph stands
        shared: Counter[tuple[int, int]] = Counter()
        for which in np.flatnonzero((standing >= 2) & (standing <= _BOILERPLATE)):
            places = order[starts[which] : starts[which] + standing[which]]
            for one, other in combinations(sorted(owners[places].tolist()), 2):
                shared[one, other] += int(sizes[places[0]])
        for (one, other), characters in sorted(shared.items()):
            if characters >= SHARED * min(totals[one], totals[other]):
                yield one, other


def paragraphs_of(words: Words) -> tuple[Hashes, NDArray[np.int64], NDArray[np.float64]]:
    """(hashes, sizes in bytes, words) of each paragraph of a text."""
    if not len(words):
        return np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0)
    starts = np.flatnonzero(np.diff(words.paragraphs, prepend=-1))
    counts = np.diff(starts, append=len(words))
    places = np.arange(len(words)) - np.repeat(starts, counts)
    # The order of the words counts too.
    hashes = mix(np.add.reduceat(mix(words.hashes + places.astype(np.uint64)), starts))
    sizes = np.add.reduceat(words.lengths, starts) + counts - 1
    return hashes, sizes, counts - np.add.reduceat(words.alone.astype(np.int64), starts) / 2


class Parts:
    """Collects the paragraphs of documents given one by one; 16 bytes a paragraph."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        self._sizes: list[NDArray[np.uint32]] = [np.empty(0, np.uint32)]
        self._counts: list[int] = []

    def add(self, words: Words) -> None:
        """Take in the words of the next document."""
        hashes, sizes, counts = paragraphs_of(words)
        long = counts >= WORDS
        distinct, first = np.unique(hashes[long], return_index=True)
        self._hashes.append(distinct)
        self._sizes.append(sizes[long][first].astype(np.uint32))
        self._counts.append(len(distinct))

    def paragraphs(self) -> Paragraphs:
        """What was collected."""
        owners = np.repeat(np.arange(len(self._counts), dtype=np.uint32), self._counts)
        return Paragraphs(np.concatenate(self._hashes), np.concatenate(self._sizes), owners, len(self._counts))

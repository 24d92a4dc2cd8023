"""Documents that hold a part of another: paragraphs that stand, word for word, in both.

A signature of whole documents does not see that a short text stands inside a long one (their Jaccard similarity is
low), but a page in the test split that is a chapter of a page in the train split is a leak all the same.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.text import UNSPACED

SHARED = 0.25  # of the shorter document's paragraphs, by characters, from which two documents belong together
# Shorter paragraphs are phrases that stand anywhere: headings, "See also". A character of a script without spaces
# between words is half a word.
_WORDS = 8
_BOILERPLATE = 20  # a paragraph in more documents than this says nothing of how they are related
_BREAK = re.compile(r"\n\s*\n")
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

_CHARACTER = re.compile(f"[{UNSPACED}]")


@dataclass(frozen=True)
class Paragraphs:
    """Of some documents, each paragraph that is long enough, once a document. hashes, sizes (characters), owners
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


class Parts:
    """Collects the paragraphs of documents given one by one; 16 bytes a paragraph."""

    def __init__(self) -> None:
        self._hashes, self._sizes, self._owners = array("Q"), array("I"), array("I")
        self._documents = 0

    def add(self, text: str) -> None:
        """Take in the next document."""
        found: dict[int, int] = {}
        for paragraph in _BREAK.split(text):
            words = _WORD.findall(paragraph.casefold())
            plain = " ".join(words)
            if len(words) - len(_CHARACTER.findall(plain)) / 2 >= _WORDS:
                found[int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "big")] = len(plain)
        self._owners.extend([self._documents] * len(found))
        self._hashes.extend(found.keys())
        self._sizes.extend(found.values())
        self._documents += 1

    def paragraphs(self) -> Paragraphs:
        """What was collected."""
        return Paragraphs(
            np.array(self._hashes, np.uint64),
            np.array(self._sizes, np.uint32),
            np.array(self._owners, np.uint32),
            self._documents,
        )

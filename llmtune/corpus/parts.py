"""Documents that hold a part of another: paragraphs that stand, word for word, in both.

A signature of whole documents does not see that a short text stands inside a long one (their Jaccard similarity is
low), but a page in the test split that is a chapter of a page in the train split is a leak all the same.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from llmtune.corpus.text import UNSPACED

SHARED = 0.25  # of the shorter document's paragraphs, by characters, from which two documents belong together
# Shorter paragraphs are phrases that stand anywhere: headings, "See also". A character of a script without spaces
# between words is half a word.
_WORDS = 8
_BOILERPLATE = 20  # a paragraph in more documents than this says nothing of how they are related
_BREAK = re.compile(r"\n\s*\n")
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

_CHARACTER = re.compile(f"[{UNSPACED}]")


class Parts:
    """Collects the paragraphs of documents given one by one; 16 bytes a paragraph."""

    def __init__(self) -> None:
        self._hashes, self._sizes, self._owners = array("Q"), array("I"), array("I")
        self._totals = array("Q")

    def add(self, text: str) -> None:
        """Take in the next document."""
        found: dict[int, int] = {}
        for paragraph in _BREAK.split(text):
            words = _WORD.findall(paragraph.casefold())
            plain = " ".join(words)
            if len(words) - len(_CHARACTER.findall(plain)) / 2 >= _WORDS:
                found[int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "big")] = len(plain)
        self._owners.extend([len(self._totals)] * len(found))
        self._hashes.extend(found.keys())
        self._sizes.extend(found.values())
        self._totals.append(sum(found.values()))

    def related(self) -> Iterator[tuple[int, int]]:
        """Pairs of documents, by number, that share at least SHARED of the shorter one's paragraphs."""
        hashes, sizes, owners = np.array(self._hashes, np.uint64), self._sizes, self._owners
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
        standing = np.diff(starts, append=len(order))  # in how many documents each paragraph stands
        shared: Counter[tuple[int, int]] = Counter()
        for which in np.flatnonzero((standing >= 2) & (standing <= _BOILERPLATE)):
            places = order[starts[which] : starts[which] + standing[which]].tolist()
            for one, other in combinations(sorted(owners[place] for place in places), 2):
                shared[one, other] += sizes[places[0]]
        for (one, other), characters in sorted(shared.items()):
            if characters >= SHARED * min(self._totals[one], self._totals[other]):
                yield one, other

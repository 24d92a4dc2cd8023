"""Hashes of word sequences (shingles, n-grams), by which documents are compared: by near.py and contamination.py."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.text import UNSPACED
from llmtune.extras import need

Hashes = NDArray[np.uint64]

_KNOWN_WORDS = 200_000  # whose hashes are remembered: 30 MB
# Scripts written without spaces between words count by character; all else by runs of letters and digits.
TOKEN = re.compile(rf"[{UNSPACED}]|[^\W_]+")


class WordHasher:
    """Words → 64-bit hashes; those of frequent words are remembered. needed_for: begins the error where rensa, whose
    hash function it is, is missing."""

    def __init__(self, needed_for: str) -> None:
        self._needed_for = needed_for
        need("rensa", needed_for)
        self._known: dict[str, int] = {}

    @property
    def rensa(self) -> ModuleType:
        """The library; no attribute, for a module does not go to another process."""
        return need("rensa", self._needed_for)

    def hashes(self, words: list[str]) -> Hashes:
        """(words,): the hash of each."""
        known = self._known
        fresh = [word for word in dict.fromkeys(words) if word not in known]
        if fresh:
            if len(known) > _KNOWN_WORDS:
                known.clear()
                fresh = list(dict.fromkeys(words))
            known.update(zip(fresh, self.rensa.RMinHash.hash_token_sets([fresh])[0], strict=True))
        return np.fromiter((known[word] for word in words), np.uint64, len(words))


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return TOKEN.findall(text.casefold())


def shingles(word_hashes: Hashes, width: int) -> Hashes:
    """(max(0, words - width + 1),): a hash of each sequence of `width` words, in their order."""
    mixed = np.zeros(max(0, len(word_hashes) - width + 1), np.uint64)
    for offset in range(width if len(mixed) else 0):
        mixed = mix(mixed * np.uint64(0x9E3779B97F4A7C15) + word_hashes[offset : offset + len(mixed)])
    return mixed


def mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64: every bit of the input reaches every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

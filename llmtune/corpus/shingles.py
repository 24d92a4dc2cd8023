"""Hashes of words and of word sequences (shingles, n-grams), by which documents are compared: by near.py, parts.py,
contamination.py and the relevance filter.

A word is a run of letters and digits, case aside; in scripts written without spaces each character is one. Its hash is
that of its UTF-8 bytes b as a polynomial, Σ b_i P^i mod 2^64 (Karp and Rabin 1987), worked out for all words of a text
at once from the running sum over the text: (C_end - C_start) · P^-start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.text import UNSPACED

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
_TOGETHER = 1 << 19  # bytes worked on at a time; a longer word counts as two
_WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+")  # of what `_plain` gives
_WIDE = re.compile(r"[^\x00-\x7f]+")
_SHORT = 16  # runs of wide characters that come again: quotes, accented letters
_SIGNS = re.compile(rf"[^\w{UNSPACED}]+")
_ALONE = re.compile(f"([{UNSPACED}])")
_NEWLINE, _HIGH = 10, 0x80
_IS_WORD = np.zeros(256, bool)
_IS_WORD[[*range(ord("0"), ord("9") + 1), *range(ord("a"), ord("z") + 1), *range(_HIGH, 256)]] = True
_WIDE_LEAD, _WIDE_BYTES = 0xE0, 3  # of the characters that stand alone, in UTF-8


@dataclass(frozen=True)
class Words:
    """The words of a text, in their order.

    hashes:     (W,)
    lengths:    (W,) bytes in UTF-8
    alone:      (W,) whether it is one character of a script without spaces
    paragraphs: (W,) number of the paragraph, which an empty line ends
    """

    hashes: Hashes
    lengths: NDArray[np.int64]
    alone: NDArray[np.bool_]
    paragraphs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hashes)


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return _WORD.findall(_plain(text).decode())


def word_hashes(text: str) -> Hashes:
    """The hash of each of `words_of(text)`."""
    return hashed(text).hashes


def hashed(text: str) -> Words:
    """The words of a text, hashed."""
    data = np.frombuffer(_plain(text), np.uint8)
    starts, ends, hashes = [], [], []
    at = 0
    while at < len(data):
        stop = _cut(data, at)
        some_starts, some_ends, some_hashes = _hashed(data[at:stop])
        starts.append(some_starts + at)
        ends.append(some_ends + at)
        hashes.append(some_hashes)
        at = stop
    if not starts:
        none = np.empty(0, np.int64)
        return Words(np.empty(0, np.uint64), none, np.empty(0, bool), none)
    starts_W, ends_W = np.concatenate(starts), np.concatenate(ends)
    lengths_W = ends_W - starts_W
    breaks = np.flatnonzero((data[:-1] == _NEWLINE) & (data[1:] == _NEWLINE))
    return Words(
        np.concatenate(hashes),
        lengths_W,
        (lengths_W == _WIDE_BYTES) & (data[starts_W] >= _WIDE_LEAD),
        np.searchsorted(breaks, starts_W),
    )


def shingles(word_hashes: Hashes, width: int) -> Hashes:
    """(max(0, words - width + 1),): a hash of each sequence of `width` words, in their order."""
    mixed = np.zeros(max(0, len(word_hashes) - width + 1), np.uint64)
    for offset in range(width if len(mixed) else 0):
        mixed = mix(mixed * np.uint64(_BASE) + word_hashes[offset : offset + len(mixed)])
    return mixed


def mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64: every bit of the input reaches every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _plain(text: str) -> bytes:
    """A text without case, in which ASCII letters, digits and all bytes beyond ASCII are words."""
    if not text.isascii():
        text = _WIDE.sub(
            lambda found: _plain_short(found[0]) if len(found[0]) <= _SHORT else _plain_wide(found[0]), text
        )
    return text.encode("utf-8", "replace").lower()


def _plain_wide(wide: str) -> str:
    """Characters beyond ASCII, without case: signs as blanks, and blanks around those that stand alone."""
    return _ALONE.sub(r" \1 ", _SIGNS.sub(" ", wide.casefold()))


_plain_short = lru_cache(1 << 16)(_plain_wide)


def _cut(data: NDArray[np.uint8], at: int) -> int:
    """Where to end the bytes from `at` that are worked on together: behind a word, if there is an end of one."""
    stop = min(len(data), at + _TOGETHER)
    if stop == len(data):
        return stop
    gaps = np.flatnonzero(~_IS_WORD[data[at:stop]])
    return at + int(gaps[-1]) + 1 if len(gaps) else stop


def _hashed(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64], Hashes]:
    """(starts, ends, hashes) of the words in some bytes."""
    edges = np.flatnonzero(np.diff(_IS_WORD[data], prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers()
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(data * powers[: len(data)], out=sums[1:])
    return starts, ends, mix((sums[ends] - sums[starts]) * inverses[starts] + (ends - starts).astype(np.uint64))


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """P^i and P^-i for i below _TOGETHER, mod 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    found = []
    for base in (_BASE, inverse):
        factors = np.full(_TOGETHER, base, np.uint64)
        factors[0] = 1
        found.append(np.multiply.accumulate(factors))
    return found[0], found[1]

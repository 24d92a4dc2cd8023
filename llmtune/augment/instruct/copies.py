"""Answers that nearly say what others say, by the words that they share.

Similar are two whose sets of words have at least four fifths of their union in common (Jaccard). It is exact and no
sketch, as answers are short; that of whole documents is llmtune/corpus/near.py.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from llmtune.corpus.text import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_PARTS, _SAME = 5, 4  # of the union's words, so many must be in both


def near_copies(answers: Iterable[tuple[bytes, str]], others: Iterable[str]) -> set[bytes]:
    """The keys of those (key, answer) that are similar to one of the others.

    Only those are compared that share one of their rarest words: of n words a similar set lacks at most n/5, so each
    has one of the other's n/5 + 1 rarest among its own (prefix filtering, Chaudhuri et al. 2006)."""
    known: dict[str, str] = {}  # each word once in memory
    keyed = [(key, tuple(known.setdefault(word, word) for word in _words(answer))) for key, answer in answers]
    counts = Counter(word for _, words in keyed for word in words)

    def rarest(words: Iterable[str]) -> list[str]:
        ordered = sorted(words, key=lambda word: (counts[word], word))
        return ordered[: len(ordered) * (_PARTS - _SAME) // _PARTS + 1]

    having: defaultdict[str, list[int]] = defaultdict(list)
    for place, (_, words) in enumerate(keyed):
        for word in rarest(words):
            having[word].append(place)
    found: set[bytes] = set()
    for other in others:
        said = _words(other)
        for place in {place for word in rarest(said) for place in having.get(word, ())}:
            key, words = keyed[place]
            common = len(said.intersection(words))
            if _PARTS * common >= _SAME * (len(said) + len(words) - common):
                found.add(key)
    return found


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))

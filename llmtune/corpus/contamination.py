"""Decontamination: find documents that hold texts of the user's evaluation sets.

An evaluation text is found in a document when so many of its words stand in a row in both, case and punctuation aside
(13 of them: Brown et al. 2020, arXiv:2005.14165, appendix C). A text of fewer words is found when all of it stands
there; one of fewer than SHORTEST says too little and is passed over. In scripts without spaces two characters count as
a word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.shingles import Hashes, hashed, shingles, word_hashes, words_of

SHORTEST = 6  # words; shorter answers ("the autovacuum daemon") stand in half of a manual
_MOST_HITS = 50  # told of a document: texts of one set can begin alike, all thousands of them
_BREAK = re.compile(r"(\n\s*\n)")


@dataclass(frozen=True)
class Hit:
    """text: id of the evaluation text that was found; words: the words in a row that the document shares with it."""

    text: str
    words: str


class EvaluationTexts:
    """The word sequences of evaluation texts, to look for in documents; 12 bytes a word.

    texts: (id, text, whether it is a record); sequences do not go on from one paragraph of a text to the next. Of a
        record each paragraph is a text of its own, however short; a file's headings are not
    words: length of a sequence
    """

    def __init__(self, texts: Iterable[tuple[str, str, bool]], words: int) -> None:
        self.ids: list[str] = []
        found: dict[int, list[tuple[Hashes, int]]] = defaultdict(list)  # width → (sequences, number of the text)
        for id, text, is_record in texts:
            paragraphs = _BREAK.split(text)[::2]
            for paragraph in paragraphs:
                own = hashed(paragraph)
                scale = 2 if 2 * own.alone.sum() > len(own) else 1
                if len(own) >= scale * (SHORTEST if is_record or len(paragraphs) == 1 else words):
                    width = min(scale * words, len(own))
                    found[width].append((shingles(own.hashes, width), len(self.ids)))
            self.ids.append(id)
        self._sequences = {width: _sorted(parts) for width, parts in sorted(found.items())}

    def hits(self, text: str) -> list[Hit]:
        """Each evaluation text that is found in a document, once, with the first words they share; of very many the
        first."""
        hits: dict[int, tuple[int, int]] = {}  # text → (first word, width)
        for start, width, owners in self._matches(word_hashes(text)):
            for owner in owners.tolist():
                hits.setdefault(owner, (start, width))
            if len(hits) >= _MOST_HITS:
                break
        words = words_of(text) if hits else []
        first = sorted(hits.items())[:_MOST_HITS]
        return [Hit(self.ids[owner], " ".join(words[at : at + width])) for owner, (at, width) in first]

    def cut(self, text: str) -> str:
        """A document without the paragraphs in which sequences of evaluation texts stand."""
        while True:
            parts = _BREAK.split(text)  # paragraphs, with what stands between them in the odd places
            words = [word_hashes(paragraph) for paragraph in parts[::2]]
            ends = list(accumulate(len(one) for one in words))
            hashes = np.concatenate(words)
            hit: set[int] = set()
            for start, width, _ in self._matches(hashes):
                first, last = np.searchsorted(ends, (start, start + width - 1), side="right")
                hit.update(range(int(first), int(last) + 1))
            if not hit:
                return text
            kept = [number for number in range(len(words)) if number not in hit]
            text = "".join(parts[2 * number] + "".join(parts[2 * number + 1 : 2 * number + 2]) for number in kept)
            text = text.strip("\n")

    def _matches(self, hashes: Hashes) -> Iterator[tuple[int, int, NDArray[np.uint32]]]:
        """(first word, width, numbers of the texts) of each sequence of a document that evaluation texts have too."""
        for width, (known, owners) in self._sequences.items():
            own = shingles(hashes, width)
            places = np.minimum(np.searchsorted(known, own), len(known) - 1)
            for start in np.flatnonzero(known[places] == own).tolist():
                yield start, width, owners[places[start] : np.searchsorted(known, own[start], side="right")]


def _sorted(parts: list[tuple[Hashes, int]]) -> tuple[Hashes, NDArray[np.uint32]]:
    """Sequences, ascending, each once for every text that has it, with the text."""
    distinct = [(np.unique(hashes), owner) for hashes, owner in parts]
    sequences = np.concatenate([hashes for hashes, _ in distinct])
    owners = np.repeat(np.array([owner for _, owner in distinct], np.uint32), [len(hashes) for hashes, _ in distinct])
    order = np.argsort(sequences, kind="stable")
    return sequences[order], owners[order]

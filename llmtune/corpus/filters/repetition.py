"""Gopher's repetition rules (Rae et al. 2021, table A1): how much of a document repeats itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.settings import RepetitionSettings
from llmtune.corpus.shingles import Hashes, mix

REPETITION = "repetitive"

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class RepetitionFilter:
    """Lines, paragraphs, and sequences of words, found by 64-bit hashes: whole documents at a time, in numpy."""

    reason = REPETITION

    def __init__(self, settings: RepetitionSettings) -> None:
        self._settings = settings

    def judge(self, view: View) -> str | None:
        return next(self._found(view), None) if view.of_prose else None

    def _found(self, view: View) -> Iterator[str]:
        """What repeats too much, cheap rules first."""
        asked, size = self._settings, max(len(view.prose), 1)
        for name, parts, of_number, of_characters in (
            ("paragraphs", view.all_paragraphs, asked.duplicate_paragraphs, asked.duplicate_paragraph_characters),
            ("lines", view.all_lines, asked.duplicate_lines, asked.duplicate_line_characters),
        ):
            once = set(parts)
            number = 1 - len(once) / max(len(parts), 1)
            if of_number is not None and number > of_number:
                yield f"{number:.0%} of the {name} are copies, at most {of_number:.0%} asked for"
            characters = (sum(map(len, parts)) - sum(map(len, once))) / size
            if of_characters is not None and characters > of_characters:
                yield f"{characters:.0%} of the text is in copies of {name}, at most {of_characters:.0%} asked for"
        yield from self._sequences(view.prose_words, size, view.unspaced)

    def _sequences(self, words: list[str], size: int, unspaced: bool) -> Iterator[str]:
        # Python's hash of a string differs from process to process, and equal words have equal ones in each.
        word_hashes = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
        ends = np.concatenate([[0], np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))])
        # A word of a script without spaces is about two characters long, and each of them is a word here.
        scale = 2 if unspaced else 1
        tops = {scale * width: share for width, share in self._settings.top_sequences.items()}
        repeats = {scale * width: share for width, share in self._settings.repeated_sequences.items()}
        sequences = word_hashes
        for width in range(1, min(max([*tops, *repeats], default=0), len(words)) + 1):
            if width > 1:
                sequences = mix(sequences[:-1] * _FACTOR + word_hashes[width - 1 :])
            if width not in tops and width not in repeats:
                continue
            lengths = ends[width:] - ends[:-width]
            # Equal sequences side by side, the first of each in the text at `firsts`.
            order = np.argsort(sequences)
            ordered = sequences[order]
            starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
            if len(starts) == len(order):
                return  # no sequence stands there twice, and so no longer one
            firsts = np.minimum.reduceat(order, starts)
            if width in tops:
                counts = np.diff(np.append(starts, len(order)))
                most = int(counts.max())
                top = int(firsts[counts == most].min())  # of equally frequent ones the first
                share = most * (int(lengths[top]) + (width - 1) * (not unspaced)) / size
                if share > tops[width]:
                    yield (
                        f"{min(share, 1):.0%} of the text is one sequence of {width} words, again and again; "
                        f"at most {tops[width]:.0%} asked for"
                    )
            if width in repeats:
                # An upper bound first, all words of sequences seen before. It settles nearly all documents: longer
                # sequences that are repeated lie in shorter ones, so that it bounds theirs too.
                seen = np.ones(len(order), bool)
                seen[firsts] = False
                bound = _covered(seen, ends, width) / size
                if bound <= min(share for other, share in repeats.items() if other >= width):
                    repeats = {}
                elif bound > repeats[width]:
                    share = _repeated(sequences, lengths, width) / size
                    if share > repeats[width]:
                        yield (
                            f"{share:.0%} of the text is in sequences of {width} words seen before, "
                            f"at most {repeats[width]:.0%} asked for"
                        )
            if not repeats and width >= max(tops, default=0):
                return


def _covered(seen: NDArray[np.bool_], ends: NDArray[np.int64], width: int) -> int:
    """Characters of the words in sequences that were seen before, each word counted once."""
    steps = np.zeros(len(ends), np.int64)
    at = np.flatnonzero(seen)
    np.add.at(steps, at, 1)
    np.add.at(steps, at + width, -1)
    return int(np.diff(ends)[np.cumsum(steps)[:-1] > 0].sum())


def _repeated(sequences: Hashes, lengths: NDArray[np.int64], width: int) -> int:
    """Characters in sequences seen before, read from left to right: one that was seen is passed over whole, so that
    none is counted twice."""
    known: set[int] = set()
    found, place, hashes = 0, 0, sequences.tolist()
    while place < len(hashes):
        if hashes[place] in known:
            found += int(lengths[place])
            place += width
        else:
            known.add(hashes[place])
            place += 1
    return found

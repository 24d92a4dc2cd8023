"""Lines that repeat across the documents of one source: headers and footers, licence blocks, navigation.

What is counted is in how many documents of a source a line stands; what is taken are blocks (lines without an empty
one between them), and with care, since a heading, a table's head and `import numpy` repeat as well:

- anywhere, a block whose lines all repeat and that has the length of a sentence;
- within a block, a run of repeating lines as long as a paragraph (a licence under a copyright line that differs);
- at the two ends of a document, also short blocks of repeating lines, headings passed over.

Tables and code in fences are left alone, and of source code only comments are looked at. The first document that has a
line keeps it, so no line is lost to the corpus (as in C4, Raffel et al. 2020). A document of which more than half would
go stays as it is: it is a copy or a form, and near-duplicates are looked for elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from llmtune.corpus.clean.unicode import tidy
from llmtune.corpus.text import UNSPACED

FEWEST = 10  # documents in which a line must stand, whatever the share: less is no pattern
_SENTENCE = 8  # words of a block that repeats
_PARAGRAPH = 20  # words of a run of repeating lines in a block that does not repeat
_MOST = 0.5  # of a document's characters
_REMEMBERED = 400_000  # lines: about 60 MB
_NEAR = 8  # lines from either end
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(rf"[{UNSPACED}]{{2}}|[^\W\d_{UNSPACED}]+")
_UNDERLINE = re.compile(r"\s*[=~^\"'*+-]{3,}")
# A line that is all comment, in most languages; not #include, #!/bin/sh, *pointer or --count.
_COMMENT = re.compile(r"\s*(?:[#*%;!]+(?: |$)|//|/\*|\*+/|<!--|-->|--+(?: |$)|\.?\\\"|dnl |rem )", re.IGNORECASE)
_FENCE = re.compile(r"\s*(```|~~~(?!~))")


class LineCounts:
    """In how many documents of a portion of a source each line stands. Holds hashes only.

    share: of the documents, from which on a line repeats. When there are too many lines, the rarest are forgotten, as
    in lossy counting (Manku and Motwani 2002): one below the share is never taken, and one that stands in a late part
    of a large source alone may be missed."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._documents: set[int] = set()  # hashes of whole texts: a copy in the portion says nothing of what repeats
        self._standing: Counter[int] = Counter()  # hash of a line → documents it stands in

    def look(self, text: str, code: bool) -> None:
        """Count the lines of a document. code: it is source code."""
        whole = _hash(text)
        if whole in self._documents:
            return
        self._documents.add(whole)
        self._standing.update(set(_keys(text.split("\n"), code)))
        if len(self._standing) > _REMEMBERED:
            rare = self._share / 2 * len(self._documents)
            self._standing = Counter({key: count for key, count in self._standing.items() if count > rare})

    def counted(self) -> Lines:
        """What was counted."""
        self._standing.pop(0, None)
        keys = np.fromiter(self._standing.keys(), np.uint64, len(self._standing))
        counts = np.fromiter(self._standing.values(), np.uint32, len(self._standing))
        order = np.argsort(keys)
        return Lines(keys[order], counts[order], len(self._documents))


@dataclass(frozen=True)
class Lines:
    """keys: hashes of lines, ascending; counts: of the documents that each stands in; documents: how many there are."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.uint32]
    documents: int

    @classmethod
    def none(cls) -> Lines:
        """Of no document."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint32), 0)

    def and_those_of(self, other: Lines, share: float) -> Lines:
        """The lines of both; the rarest forgotten, as above."""
        keys, places = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([self.counts, other.counts]), len(keys)).astype(np.uint32)
        documents = self.documents + other.documents
        if len(keys) > _REMEMBERED:
            often = counts > share / 2 * documents
            keys, counts = keys[often], counts[often]
        return Lines(keys, counts, documents)

    def repeated(self, share: float) -> NDArray[np.uint64]:
        """The lines that repeat, ascending."""
        return self.keys[self.counts >= max(FEWEST, share * self.documents)]


class Boilerplate:
    """Strips the documents of a portion, in their order.

    repeated: hashes of the lines that repeat in the source; kept: those of them that a document before has kept"""

    def __init__(self, repeated: Iterable[int], kept: Iterable[int]) -> None:
        self._repeated, self._kept = set(repeated), set(kept)

    def strip(self, text: str, code: bool) -> tuple[str, int]:
        """The text without its boilerplate, and how many characters went."""
        if not self._repeated:
            return text, 0
        lines = text.split("\n")
        keys = _keys(lines, code)
        if self._repeated.isdisjoint(keys):
            return text, 0
        new = self._repeated.intersection(keys) - self._kept
        self._kept |= new
        repeats = [key in self._repeated and key not in new for key in keys]
        blocks = _blocks(lines)
        edges = set() if code else _edges(lines, blocks, repeats)
        gone = {number for block in blocks for number in (block if block in edges else _going(lines, block, repeats))}
        characters = sum(len(lines[number]) for number in gone)
        gone |= {
            block.stop for block in blocks if gone.issuperset(block) and lines[block.stop : block.stop + 1] == [""]
        }
        if not gone or characters > _MOST * len(text):
            return text, 0
        return tidy("\n".join(line for number, line in enumerate(lines) if number not in gone)), characters


def _hash(text: str) -> int:
    """64 bits, the same in every process."""
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _keys(lines: list[str], code: bool) -> list[int]:
    """A hash a line; 0 for lines that are not looked at: headings, tables, what is too short. Near the ends of a
    document digits are alike (pages, years)."""
    if code:
        keys = [_hash(line) if _COMMENT.match(line) else 0 for line in lines]
    else:
        keys = [_hash(line) if len(line) > 3 and line[0] not in "#|" else 0 for line in lines]
    for number in {*range(len(lines))[:_NEAR], *range(len(lines))[-_NEAR:]}:
        if keys[number] and lines[number].count(" ") >= 2:
            keys[number] = _hash(_DIGITS.sub("0", lines[number]))
    return keys


def _blocks(lines: list[str]) -> list[range]:
    """The blocks of a text: runs of lines without an empty one, fenced code left out."""
    blocks: list[range] = []
    first, fence = 0, ""
    for number, line in enumerate([*lines, ""]):
        found = _FENCE.match(line)
        if line and not fence and not found:
            continue
        if first < number:
            blocks.append(range(first, number))
        first = number + 1
        if found and fence in ("", found[1]):
            fence = "" if fence else found[1]
    return blocks


def _going(lines: list[str], block: range, repeats: list[bool]) -> list[int]:
    """Which lines of a block go, wherever it stands."""
    if all(repeats[number] for number in block):
        return list(block) if _words(lines, block) >= _SENTENCE and _whole(lines, block) else []
    going: list[int] = []
    first = block.start
    for number in (*block, block.stop):
        if number < block.stop and repeats[number]:
            continue
        run = range(first, number)
        if len(run) > 1 and _words(lines, run) >= _PARAGRAPH and _whole(lines, run):
            going += run
        first = number + 1
    return going


def _edges(lines: list[str], blocks: list[range], repeats: list[bool]) -> set[range]:
    """The blocks of repeating lines at the two ends; those behind a heading only when together they are as long as a
    sentence, since a document's own first line may well be short and common ("Stability: stable")."""
    edges: set[range] = set()
    for order in (blocks, blocks[::-1]):
        section: list[range] = []
        behind_heading = False
        for block in (*order, None):
            heading = block and (lines[block.start].startswith("#") or _UNDERLINE.fullmatch(lines[block.stop - 1]))
            if block and not heading and all(repeats[number] for number in block):
                section.append(block)
                continue
            if not behind_heading or sum(_words(lines, taken) for taken in section) >= _SENTENCE:
                edges.update(section)
            if not heading:
                break
            section, behind_heading = [], True
    return edges


def _whole(lines: list[str], run: range) -> bool:
    """Whether every comment that is opened in a run of lines is closed in it."""
    text = "\n".join(lines[run.start : run.stop])
    return text.count("/*") == text.count("*/") and text.count("<!--") == text.count("-->")


def _words(lines: list[str], run: range) -> int:
    return sum(len(_WORD.findall(lines[number])) for number in run)

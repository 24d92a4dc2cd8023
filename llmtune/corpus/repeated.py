"""Paragraphs that an earlier document has too, word for word, of whatever source, taken out of the later ones; the
first one keeps them (as in Dolma, Soldaini et al. 2024). What is copied into page after page would be learnt by heart.
Code stays as it is: documents that are code, and what is fenced in the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from llmtune.corpus.clean.changes import REPEATED, Changes
from llmtune.corpus.drops import NOTHING_NEW
from llmtune.corpus.duplicates import Entry, Shortened
from llmtune.corpus.near import Sketcher
from llmtune.corpus.parts import Parts, paragraphs_of
from llmtune.corpus.portions import KEPT, Judged
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shingles import Hashes, hashed
from llmtune.corpus.sketch import are_code, compared_by
from llmtune.corpus.store import Document, read_split
from llmtune.corpus.take_in import Taken
from llmtune.corpus.text import content_hash
from llmtune.monitor import Monitor

_BREAK = re.compile(r"(\n{2,})")
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)


def without_repeated(text: str, hashes: Collection[int], words: int) -> tuple[str, int]:
    """The text without the paragraphs of these hashes that have so many words, and how many characters went. What
    stands in fenced code stays."""
    pieces = _BREAK.split(text)
    left: list[str] = []
    gone = 0
    fence = ""  # that is open
    for place in range(0, len(pieces), 2):
        paragraph = pieces[place]
        code = bool(fence)
        for mark in _FENCE.findall(paragraph):
            code = True
            fence = mark if not fence else "" if mark.startswith(fence) else fence
        if not code:
            found, _, sizes = paragraphs_of(hashed(paragraph))
            if len(found) and int(found[0]) in hashes and sizes[0] >= words:
                gone += len(paragraph)
                continue
        left += [paragraph, *pieces[place + 1 : place + 2]]
    return ("".join(left).strip("\n"), gone) if gone else (text, 0)


def shortened(document: Document, entry: Entry, words: int) -> Document:
    """The document as it goes into the corpus."""
    if entry.repeated is None or document.text is None:
        return document
    text, gone = without_repeated(document.text, frozenset(entry.repeated.tolist()), words)
    return replace(document, text=text, sha256=entry.sha256, changes=(*document.changes, (REPEATED, gone)))


def take_out(
    entries: Sequence[Entry],
    taken: Sequence[Taken],
    settings: CorpusSettings,
    changes: Changes,
    monitor: Monitor,
    is_old: Callable[[Entry], bool],
) -> Shortened:
    """Put down in the entries what becomes of their documents without what they repeat: sizes and hash, or that they
    are left out, having hardly anything else to say; what those had first is then the next one's. changes: is told, as
    are those of the sources. is_old: of an earlier corpus; those come before the others."""
    portions = [(portion, source.intake.changes) for source in taken for portion in source.portions]
    repeated = _in_several(entries, [portion for portion, _ in portions])
    had = np.zeros(len(repeated), bool)  # by a document before
    shorter: list[int] = []
    sketcher, parts = Sketcher(), Parts()
    old = np.array([is_old(entry) for entry in entries], bool)
    with monitor.bar("looking for repeated paragraphs", len(entries), "documents") as bar:
        for wanted in (True, False) if old.any() else (False,):
            for number, (hashes, code, document, of_source) in enumerate(_documents(portions)):
                monitor.safe_point()
                entry = entries[number]
                if old[number] != wanted:
                    continue
                bar.advance()
                places = np.searchsorted(repeated, hashes)
                places = places[np.append(repeated, np.uint64(0))[places] == hashes]
                again = repeated[places[had[places]]]
                if entry.left_out is None and len(again) and not code:
                    left = _shorten(entry, document(), again, settings, (changes, of_source))
                    if left is not None:
                        shorter.append(number)
                        found = hashed(left)
                        sketcher.add(left, found)
                        parts.add(found)
                if entry.left_out is None:
                    had[places] = True
    order = np.argsort(np.array(shorter, np.int64))
    numbers = np.array(shorter, np.int64)[order]
    return Shortened(numbers, sketcher.signatures()[order], parts.paragraphs().of(order))


def _shorten(
    entry: Entry, document: Document, again: Hashes, settings: CorpusSettings, changes: Sequence[Changes]
) -> str | None:
    """What is left of a document without paragraphs that others had, put down in its entry; None where it stays as it
    is, or is left out."""
    words = settings.repeated_paragraphs
    assert words is not None
    text, gone = without_repeated(document.text or "", frozenset(again.tolist()), words)
    if not gone:
        return None
    if len(text) < settings.min_characters:
        entry.left_out = (NOTHING_NEW, f"{gone:,} of {entry.characters:,} characters stand elsewhere")
        return None
    entry.repeated = again
    entry.sha256 = content_hash(text, None)
    entry.characters, entry.bytes = len(text), len(text.encode())
    for told in changes:
        told.add(entry.id, REPEATED, gone, document.text or "", text, str)
    return text


def _in_several(entries: Sequence[Entry], portions: Sequence[Judged]) -> Hashes:
    """The hashes, in order, of the paragraphs that stand in more than one of the documents that stay."""
    found = [np.empty(0, np.uint64)]
    start = 0
    for portion in portions:
        _, paragraphs = compared_by(portion.sketch)
        stays = np.array([one.left_out is None for one in entries[start : start + paragraphs.documents]], bool)
        start += paragraphs.documents
        found.append(paragraphs.hashes[stays[paragraphs.owners]])
    values, counts = np.unique(np.concatenate(found), return_counts=True)
    return values[counts > 1]


def _documents(
    portions: Sequence[tuple[Judged, Changes]],
) -> Iterator[tuple[Hashes, bool, Callable[[], Document], Changes]]:
    """(hashes of its paragraphs, whether it is code, how to read it, the changes of its source) of each document. Texts
    of a portion are read up to the last that is asked for."""
    for portion, changes in portions:
        texts = enumerate(read_split(portion.folder, KEPT))
        for row, (hashes, code) in enumerate(_paragraphs(portion)):
            yield hashes, code, partial(_at, row, texts), changes


def _at(row: int, texts: Iterator[tuple[int, Document]]) -> Document:
    return next(document for number, document in texts if number == row)


def _paragraphs(portion: Judged) -> Iterator[tuple[Hashes, bool]]:
    """(hashes of its paragraphs, whether it is code) of each document of a portion."""
    _, paragraphs = compared_by(portion.sketch)
    ends = np.searchsorted(paragraphs.owners, np.arange(paragraphs.documents), side="right")
    yield from zip(np.split(paragraphs.hashes, ends)[:-1], are_code(portion.sketch).tolist(), strict=True)

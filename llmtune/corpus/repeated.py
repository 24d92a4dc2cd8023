"""Paragraphs that an earlier document has too, word for word, of whatever source, taken out of the later ones; the
first one keeps them (as in Dolma, Soldaini et al. 2024). What is copied into page after page would be learnt by heart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from llmtune.corpus.clean.changes import REPEATED, Changes
from llmtune.corpus.drops import NOTHING_NEW
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.parts import paragraphs_of
from llmtune.corpus.portions import KEPT
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shingles import hashed
from llmtune.corpus.store import Document, count, read_split
from llmtune.corpus.take_in import Taken
from llmtune.corpus.text import content_hash
from llmtune.monitor import Monitor

_BREAK = re.compile(r"(\n{2,})")
_FENCES = ("```", "~~~")


def without_repeated(text: str, hashes: frozenset[int], words: int) -> tuple[str, int]:
    """The text without the paragraphs of these hashes that have so many words, and how many characters went. One that
    opens or closes fenced code stays."""
    pieces = _BREAK.split(text)
    left: list[str] = []
    gone = 0
    for place in range(0, len(pieces), 2):
        paragraph = pieces[place]
        found, _, sizes = paragraphs_of(hashed(paragraph))
        whole = all(paragraph.count(fence) % 2 == 0 for fence in _FENCES)
        if len(found) and int(found[0]) in hashes and sizes[0] >= words and whole:
            gone += len(paragraph)
        else:
            left += [paragraph, *pieces[place + 1 : place + 2]]
    return ("".join(left).strip("\n"), gone) if gone else (text, 0)


def take_out(
    entries: Sequence[Entry], taken: Sequence[Taken], settings: CorpusSettings, changes: Changes, monitor: Monitor
) -> None:
    """Put down in the entries what becomes of their documents without what they repeat: sizes and hash, or that they
    are left out, having hardly anything else to say. changes: is told, as are those of the sources."""
    start = 0
    with monitor.bar("looking for repeated paragraphs", len(entries), "documents") as bar:
        for source in taken:
            for portion in source.portions:
                mine = entries[start : start + count(portion.folder, KEPT)]
                start += len(mine)
                if any(entry.repeated for entry in mine):
                    for entry, document in zip(mine, read_split(portion.folder, KEPT), strict=True):
                        monitor.safe_point()
                        _shorten(entry, document, settings, [changes, source.intake.changes])
                bar.advance(len(mine))


def shortened(document: Document, entry: Entry, words: int) -> Document:
    """The document as it goes into the corpus."""
    if not entry.repeated or document.text is None:
        return document
    text, gone = without_repeated(document.text, entry.repeated, words)
    return replace(document, text=text, sha256=entry.sha256, changes=(*document.changes, (REPEATED, gone)))


def _shorten(entry: Entry, document: Document, settings: CorpusSettings, changes: Sequence[Changes]) -> None:
    words = settings.repeated_paragraphs
    if not entry.repeated or words is None:
        return
    text, gone = without_repeated(document.text or "", entry.repeated, words)
    if not gone:
        entry.repeated = frozenset()
        return
    if len(text) < settings.min_characters:
        entry.left_out = (NOTHING_NEW, f"{gone:,} of {entry.characters:,} characters stand in documents before it")
        return
    for told in changes:
        told.add(entry.id, REPEATED, gone, document.text or "", text, str)
    entry.sha256 = content_hash(text, None)
    entry.characters, entry.bytes = len(text), len(text.encode())

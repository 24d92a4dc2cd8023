"""The clean-up of one source, in this order:

    first look     each document by itself: mojibake, Unicode, as it is read. Lines and broken words are counted
    between        what was counted in all portions of the source comes together (portions.py)
    second look    boilerplate out, words joined, personal data masked

Boilerplate goes before words are joined: a page's footer can stand between the two halves of a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from llmtune.corpus.clean.boilerplate import Boilerplate, LineCounts
from llmtune.corpus.clean.changes import BOILERPLATE, HYPHENS, INVISIBLE, MOJIBAKE, Changes
from llmtune.corpus.clean.hyphens import BrokenWords, Hyphens
from llmtune.corpus.clean.mojibake import mend_mojibake
from llmtune.corpus.clean.pii import PLACEHOLDERS, find_pii, hidden, masked
from llmtune.corpus.clean.settings import CleanSettings
from llmtune.corpus.clean.unicode import clean_and_count
from llmtune.corpus.drops import PERSONAL
from llmtune.corpus.readers import FORMATS
from llmtune.corpus.readers.reader import RawDocument, Rejected, Turn
from llmtune.corpus.store import Document, Message
from llmtune.words import printable


class FirstLook:
    """What needs only the document itself: mojibake, Unicode. Counts on the way what the whole source is asked about.

    changes: is told what was done; lines, words: of the texts seen (None: nobody asks)"""

    def __init__(self, settings: CleanSettings, changes: Changes) -> None:
        self._settings, self._changes = settings, changes
        self._hide = _Hide(settings)
        self.lines = LineCounts(settings.boilerplate) if settings.boilerplate is not None else None
        self.words = BrokenWords() if settings.hyphens else None

    def __call__(self, id: str, raw: RawDocument) -> RawDocument:
        if self._settings.mojibake:
            raw = _changed(id, raw, MOJIBAKE, mend_mojibake, self._changes, self._hide)
        raw = self._without_invisible(raw)
        if raw.text:
            if self.lines is not None:
                self.lines.look(raw.text, FORMATS[raw.format].code)
            if self.words is not None and FORMATS[raw.format].breaks != "none":
                self.words.look(raw.text)
        return raw

    def _without_invisible(self, raw: RawDocument) -> RawDocument:
        gone = 0

        def cleaned(text: str) -> str:
            nonlocal gone
            text, amount = clean_and_count(text)
            gone += amount
            return text

        raw = _with_texts(raw, cleaned)
        if not gone:
            return raw
        self._changes.count(INVISIBLE, gone)
        return replace(raw, changes=(*raw.changes, (INVISIBLE, gone)))


class SecondLook:
    """What needs the whole source (boilerplate, words broken at line ends), and then personal data, which is masked.
    Conversations have no boilerplate. `changes` is told what was done."""

    def __init__(self, settings: CleanSettings, changes: Changes, boilerplate: Boilerplate, hyphens: Hyphens) -> None:
        self._settings, self._changes = settings, changes
        self._boilerplate, self._hyphens = boilerplate, hyphens
        self._hide = _Hide(settings)

    def __call__(self, id: str, raw: RawDocument) -> RawDocument | Rejected:
        """The document, or a rejection where it may not be kept."""
        if raw.text:
            format = FORMATS[raw.format]
            strip = partial(self._boilerplate.strip, code=format.code)
            raw = _changed(id, raw, BOILERPLATE, strip, self._changes, self._hide)
            if format.breaks != "none":
                join = partial(self._hyphens.join, keep_lines=format.breaks == "lines")
                raw = _changed(id, raw, HYPHENS, join, self._changes, self._hide)
        return self._without_pii(id, raw)

    def _without_pii(self, id: str, raw: RawDocument) -> RawDocument | Rejected:
        texts, kinds = _texts(raw), self._hide.kinds
        found = [find_pii(text, kinds) for text in texts]
        if not any(found):
            return raw
        counts = {kind: sum(one[2] == kind for of_text in found for one in of_text) for kind in kinds}
        counts = {kind: count for kind, count in counts.items() if count}
        unwanted = [kind for kind in counts if getattr(self._settings.pii, kind) == "drop"]
        if unwanted:
            return Rejected(raw.part, PERSONAL, ", ".join(f"{counts[kind]} × {kind}" for kind in unwanted))
        after = [masked(text, of_text) for text, of_text in zip(texts, found, strict=True)]
        for kind, count in counts.items():
            number = next(n for n, of_text in enumerate(found) if any(one[2] == kind for one in of_text))
            only = [one for one in found[number] if one[2] == kind]
            shown = hidden(texts[number], found[number])
            self._changes.add(id, kind, count, shown, masked(shown, only), self._hide)
        parts = iter(after)
        return replace(_with_texts(raw, lambda _: next(parts)), changes=(*raw.changes, *counts.items()))


class _Hide:
    """Takes personal data out of samples. kinds: those that are looked for."""

    def __init__(self, settings: CleanSettings) -> None:
        self.kinds = [kind for kind in PLACEHOLDERS if getattr(settings.pii, kind) != "keep"]

    def __call__(self, text: str) -> str:
        return hidden(text, find_pii(text, self.kinds))


def _changed(
    id: str, raw: RawDocument, kind: str, change: Callable[[str], tuple[str, int]], changes: Changes, hide: _Hide
) -> RawDocument:
    """The document after a change of each of its texts, which tells how much it did; put down in `changes`."""
    before, amounts = _texts(raw), []

    def changed(text: str) -> str:
        text, amount = change(text)
        amounts.append(amount)
        return text

    after = _with_texts(raw, changed)
    if not any(amounts):
        return raw
    number = next(n for n, amount in enumerate(amounts) if amount)
    changes.add(id, kind, sum(amounts), before[number], _texts(after)[number], hide)
    return replace(after, changes=(*raw.changes, (kind, sum(amounts))))


def messages_of(raw: RawDocument) -> tuple[Message, ...] | None:
    """The turns of a conversation as the corpus stores them."""
    return tuple(Message(turn.role, turn.content) for turn in raw.messages) if raw.messages is not None else None


def _texts(raw: RawDocument) -> list[str]:
    """The text of a document, or what its turns say."""
    return [raw.text] if raw.text is not None else [turn.content for turn in raw.messages or ()]


def _with_texts(raw: RawDocument, change: Callable[[str], str]) -> RawDocument:
    """The document with each of its texts changed, in order."""
    if raw.text is not None:
        return replace(raw, text=change(raw.text))
    return replace(raw, messages=tuple(Turn(turn.role, change(turn.content)) for turn in raw.messages or ()))


def set_down(id: str, raw: RawDocument) -> Document:
    """A document for the spool, which holds rows of the corpus: `source` is the format."""
    licence = printable(raw.licence) if raw.licence else None
    return Document(id, raw.text, messages_of(raw), raw.format, licence, "", raw.group, changes=raw.changes)


def taken_up(row: Document) -> RawDocument:
    """The document of such a row."""
    messages = tuple(Turn(turn.role, turn.content) for turn in row.messages) if row.messages is not None else None
    return RawDocument("", row.text, messages, row.licence, row.source, row.changes, row.group)

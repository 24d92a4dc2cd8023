"""The clean-up of one source, in this order:

    one by one     mojibake, Unicode, as the documents are read
    all together   lines that repeat, words broken at line ends: looked for in the whole source, which is set down in a
                   spool meanwhile; in memory are hashes and the broken words
    one by one     boilerplate out, words joined, personal data masked

Boilerplate goes before words are joined: a page's footer can stand between the two halves of a word.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from llmtune.corpus.clean.boilerplate import Boilerplate
from llmtune.corpus.clean.changes import BOILERPLATE, HYPHENS, MOJIBAKE, Changes
from llmtune.corpus.clean.hyphens import Hyphens
from llmtune.corpus.clean.mojibake import mend_mojibake
from llmtune.corpus.clean.pii import PLACEHOLDERS, find_pii, hidden, masked
from llmtune.corpus.clean.settings import CleanSettings
from llmtune.corpus.clean.unicode import clean_text
from llmtune.corpus.drops import PERSONAL
from llmtune.corpus.readers import FORMATS
from llmtune.corpus.readers.reader import RawDocument, Rejected, Turn
from llmtune.corpus.sources import FileOf, id_of
from llmtune.corpus.store import Document, Message, read_split, write_split
from llmtune.corpus.text import printable
from llmtune.monitor import Monitor


class SourceCleaner:
    """Cleans the documents of one source; what was done is told in `changes`. name: of the source, for ids."""

    def __init__(self, name: str, settings: CleanSettings, changes: Changes, monitor: Monitor) -> None:
        self._name, self._settings, self._changes, self._monitor = name, settings, changes, monitor
        self._boilerplate = Boilerplate(settings.boilerplate) if settings.boilerplate is not None else None
        self._hyphens = Hyphens() if settings.hyphens else None
        self._kinds = [kind for kind in PLACEHOLDERS if getattr(settings.pii, kind) != "keep"]

    def cleaned(
        self, documents: Iterable[tuple[FileOf, RawDocument]], spool: Path
    ) -> Iterator[tuple[FileOf, RawDocument | Rejected]]:
        """The documents cleaned, in order; those that may not be kept as rejections. spool: a folder for the time."""
        first = ((file, self._first_look(file, raw)) for file, raw in documents)
        if self._boilerplate is None and self._hyphens is None:
            yield from ((file, self._last_look(file, raw)) for file, raw in first)
            return
        files: list[FileOf] = []

        def spooled() -> Iterator[Document]:
            for file, raw in first:
                files.append(file)
                yield _set_down(raw)

        write_split(spool.parent, spool.name, spooled())
        if self._boilerplate is not None and not self._boilerplate.settle():
            self._boilerplate = None
        if self._hyphens is not None and self._hyphens.wanted:
            for document in read_split(spool.parent, spool.name):
                self._monitor.safe_point()
                self._hyphens.count(document.text or "")
        with self._monitor.bar(f"cleaning {self._name}", len(files), "documents") as bar:
            for file, document in zip(files, read_split(spool.parent, spool.name), strict=True):
                self._monitor.safe_point()
                yield file, self._last_look(file, self._second_look(file, _taken_up(document)))
                bar.advance()
        shutil.rmtree(spool, ignore_errors=True)

    def _first_look(self, file: FileOf, raw: RawDocument) -> RawDocument:
        """What needs only the document itself; and what the source is asked about later."""
        raw = self._changed(file, raw, MOJIBAKE, mend_mojibake) if self._settings.mojibake else raw
        raw = _with_texts(raw, clean_text)
        if raw.text:
            if self._boilerplate is not None:
                self._boilerplate.look(raw.text, FORMATS[raw.format].code)
            if self._hyphens is not None and FORMATS[raw.format].breaks != "none":
                self._hyphens.look(raw.text)
        return raw

    def _second_look(self, file: FileOf, raw: RawDocument) -> RawDocument:
        """What needs the whole source. Conversations have neither."""
        if not raw.text:
            return raw
        format, boilerplate, hyphens = FORMATS[raw.format], self._boilerplate, self._hyphens
        if boilerplate is not None:
            raw = self._changed(file, raw, BOILERPLATE, lambda text: boilerplate.strip(text, format.code))
        if hyphens is not None and format.breaks != "none":
            raw = self._changed(file, raw, HYPHENS, lambda text: hyphens.join(text, format.breaks == "lines"))
        return raw

    def _last_look(self, file: FileOf, raw: RawDocument) -> RawDocument | Rejected:
        """Personal data masked, or the document rejected."""
        texts = _texts(raw)
        found = [find_pii(text, self._kinds) for text in texts]
        if not any(found):
            return raw
        counts = {kind: sum(one[2] == kind for of_text in found for one in of_text) for kind in self._kinds}
        counts = {kind: count for kind, count in counts.items() if count}
        unwanted = [kind for kind in counts if getattr(self._settings.pii, kind) == "drop"]
        if unwanted:
            return Rejected(raw.part, PERSONAL, ", ".join(f"{counts[kind]} × {kind}" for kind in unwanted))
        after = [masked(text, of_text) for text, of_text in zip(texts, found, strict=True)]
        id = id_of(self._name, file, raw.part)
        for kind, count in counts.items():
            number = next(n for n, of_text in enumerate(found) if any(one[2] == kind for one in of_text))
            only = [one for one in found[number] if one[2] == kind]
            shown = hidden(texts[number], found[number])
            self._changes.add(id, kind, count, shown, masked(shown, only), self._hidden)
        parts = iter(after)
        return replace(_with_texts(raw, lambda _: next(parts)), changes=(*raw.changes, *counts.items()))

    def _changed(
        self, file: FileOf, raw: RawDocument, kind: str, change: Callable[[str], tuple[str, int]]
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
        id, now = id_of(self._name, file, raw.part), _texts(after)[number]
        self._changes.add(id, kind, sum(amounts), before[number], now, self._hidden)
        return replace(after, changes=(*raw.changes, (kind, sum(amounts))))

    def _hidden(self, text: str) -> str:
        return hidden(text, find_pii(text, self._kinds))


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


def _set_down(raw: RawDocument) -> Document:
    """A document for the spool, which holds rows of the corpus: `id` is the part, `source` the format."""
    licence = printable(raw.licence) if raw.licence else None
    return Document(raw.part, raw.text, messages_of(raw), raw.format, licence, "", "", changes=raw.changes)


def _taken_up(row: Document) -> RawDocument:
    messages = tuple(Turn(turn.role, turn.content) for turn in row.messages) if row.messages is not None else None
    return RawDocument(row.id, row.text, messages, row.licence, row.source, row.changes)

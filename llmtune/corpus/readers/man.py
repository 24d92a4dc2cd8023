"""Manual pages (roff with the macros of man(7) or mdoc(7)): a page is a document, its name on top."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.man_macros import man_text
from llmtune.corpus.readers.mdoc import mdoc_text
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.readers.roff import Call, Roff
from llmtune.corpus.settings import Source


class ManReader:
    """One that only names another one (`.so man3/printf.3`) has no text of its own."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        yield RawDocument(text=page_text(read_text(path, source.encoding)))


def page_text(raw: str) -> str:
    """The text of a manual page: headings, paragraphs, terms above their meanings, code, tables."""
    events = Roff(raw).events()
    before: list[str | Call] = []
    for event in events:  # the macros that every page has tell which ones it is written with
        before.append(event)
        if isinstance(event, Call) and event.name in ("Dd", "Dt", "Sh"):
            return mdoc_text(chain(before, events))
        if isinstance(event, Call) and event.name in ("TH", "SH"):
            break
    return man_text(chain(before, events))

"""Augmented documents beside the originals that they were made from, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from llmtune.corpus.store import Document

CHARACTERS = 700  # of a document, where it is not shown whole


def pairs_table(pairs: Iterable[tuple[Document, Document]], *, whole: bool = False) -> Table:
    """Pairs of original and augmented documents side by side; their beginnings, unless `whole`."""
    table = Table(title="Augmented documents", title_justify="left", expand=True, show_lines=True)
    table.add_column("original", ratio=1)
    table.add_column("made from it", ratio=1)
    for original, made in pairs:
        table.add_row(*(Text(f"{one.id}\n", "bold").append(_content(one, whole), "none") for one in (original, made)))
    return table


def _content(document: Document, whole: bool) -> str:
    turns = (f"{message.role}: {message.content}" for message in document.messages or ())
    text = "\n".join(turns) if document.text is None else document.text
    return text if whole or len(text) <= CHARACTERS else text[:CHARACTERS] + " …"

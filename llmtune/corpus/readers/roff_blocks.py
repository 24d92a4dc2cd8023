"""The text of a manual page as it grows: headings, paragraphs, terms with what they mean, items, code, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmtune.corpus.readers.fence import fenced
from llmtune.corpus.readers.roff_text import JOINED

_ITEM, _OTHER = "item", "other"
_LONGEST_TERM = 120  # characters
_MOST_COLUMNS = 100  # of a table: shorter rows are filled up to the longest


class Blocks:
    """Takes a page's lines and tells its text, in the form of markdown.py and html_blocks.py."""

    def __init__(self) -> None:
        self._done: list[tuple[str, str]] = []
        self._paragraph = ""
        self._head = ""  # terms that what follows explains
        self._marker = ""  # of the item that what follows is
        self._code: list[str] | None = None

    @property
    def in_code(self) -> bool:
        return self._code is not None

    def text(self, line: str) -> None:
        """A line: of code as it is, else filled into the paragraph. An empty one ends the paragraph, one that begins
        with a space begins a new line."""
        if self._code is not None:
            if self._code and self._code[-1].endswith(JOINED):
                line = self._code.pop() + line
            self._code.append(line)
        elif not line.strip():
            self.paragraph()
        else:
            if line.startswith((" ", "\t")):
                self.line()
            words = " ".join(line.split())
            self._paragraph += words if self._paragraph.endswith((JOINED, "\n")) or not self._paragraph else f" {words}"

    def joined(self, text: str) -> None:
        """Text without a space before it, nor in code a line of its own."""
        if self._code is not None:
            self._code[-1:] = ["".join([*self._code[-1:], text])]
        else:
            self._paragraph += " ".join(text.split())

    def line(self) -> None:
        """What follows begins a new line."""
        if self._paragraph and not self._paragraph.endswith("\n"):
            self._paragraph += "\n"

    def paragraph(self) -> None:
        """What follows is a new paragraph; in code, an empty line."""
        if self._code is not None:
            self._code.append("")
            return
        self._end_paragraph()

    def heading(self, level: int, text: str) -> None:
        self._end()
        if text.strip():
            self._add(f"{'#' * level} {' '.join(text.replace(JOINED, '').split())}")

    def term(self, text: str) -> None:
        """A term, or one more for the same meaning."""
        self.code(False)
        self._end_paragraph()
        text = " ".join(text.replace(JOINED, "").split())
        self._head = f"{self._head}\n{text}" if self._head else text

    def end_term(self) -> None:
        """The paragraph ends, and what follows is indented under it: as DocBook's converters write terms."""
        text = self._paragraph.strip()
        if 0 < len(text) <= _LONGEST_TERM and "\n" not in text and not re.search(r"(?<!\.\.)[.:;,]$", text):
            self._paragraph = ""
            self.term(text)
        else:
            self._end_paragraph()

    def item(self, marker: str) -> None:
        """What follows is an item of a list; marker is `-` or `1.`."""
        self._end()
        self._marker = f"{marker} "

    def code(self, on: bool) -> None:
        """Code begins, or ends."""
        if on and self._code is None:
            self._end_paragraph()
            self._code = []
        elif not on and self._code is not None:
            code = "\n".join(line.replace(JOINED, "").rstrip() for line in self._code).strip("\n")
            self._code = None
            if code:
                self._add(fenced(code), apart=True)

    def table(self, rows: Iterable[list[str]]) -> None:
        """A Markdown table, the first row its head; of one column, paragraphs."""
        self._end()
        kept = [[" ".join(cell.replace(JOINED, "").split()) for cell in row] for row in rows]
        kept = [row for row in kept if any(row)]
        columns = min(max(map(len, kept), default=0), _MOST_COLUMNS)
        kept = [row[:columns] for row in kept]
        if columns < 2:
            for row in kept:
                self._add(row[0])
            return
        lines = [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row + [''] * (columns - len(row)))} |"
            for row in kept
        ]
        lines.insert(1, "|" + " --- |" * columns)
        self._add("\n".join(lines))

    def result(self) -> str:
        """All of it; blocks apart by one empty line, items of a list by none."""
        self._end()
        text = ""
        before = ""
        for kind, block in self._done:
            text += ("\n" if kind == before == _ITEM else "\n\n") + block if text else block
            before = kind
        return text

    def _end(self) -> None:
        """End whatever is open; a term that nothing explains stands alone."""
        self.code(False)
        self._end_paragraph()
        if self._head or self._marker.strip(" -"):
            self._add("")
        self._head = self._marker = ""

    def _end_paragraph(self) -> None:
        text = self._paragraph.replace(JOINED, "")
        self._paragraph = ""
        if text.strip():
            self._add(text.strip("\n"))

    def _add(self, block: str, apart: bool = False) -> None:
        """A block that is whole, under its terms or behind its marker."""
        if self._head:
            block = f"{self._head}\n{chr(10) if apart else ''}{block}".rstrip("\n")
        if self._marker:
            indent = " " * len(self._marker)
            first, *rest = block.split("\n")
            block = "\n".join([f"{self._marker}{first}".rstrip(), *(indent + line if line else "" for line in rest)])
        self._done.append((_ITEM if self._marker else _OTHER, block))
        self._head = self._marker = ""

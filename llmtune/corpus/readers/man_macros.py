"""The macros of man(7), and tables of tbl(1) → text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llmtune.corpus.readers.roff import Call
from llmtune.corpus.readers.roff_blocks import Blocks
from llmtune.corpus.readers.roff_text import JOINED, plain

_BULLETS = frozenset({"•", "·", "*", "-", "—", "–", "o", "○", "□", "+", "◦", "→", "?", "▪"})
_NUMBER = re.compile(r"[\[(]?(\d{1,3}|[a-zA-Z])[.)\]]+")
_ALTERNATING = frozenset({"BR", "BI", "IB", "IR", "RB", "RI", "SB"})
_PLAIN = frozenset({"B", "I", "SM", "R", "CW", "ul"})
_PARAGRAPHS = frozenset({"PP", "P", "LP", "HP", "sp", "Sp", "YS"})
_CODE_ON, _CODE_OFF = frozenset({"nf", "EX", "Vb", "DS"}), frozenset({"fi", "EE", "Ve", "DE"})
_DRAWN = {"PS": "PE", "EQ": "EN", "GS": "GE"}  # pictures and formulas, in languages of their own


def man_text(events: Iterator[str | Call]) -> str:
    """The text of a page written with man(7)."""
    return _Page().text_of(events)


class _Page:
    def __init__(self) -> None:
        self._blocks = Blocks()
        self._awaited = ""  # what the next line is: a term, a heading
        self._link: tuple[str, str] = ("", "")  # address, the paragraph before its text
        self._shown = True

    def text_of(self, events: Iterator[str | Call]) -> str:
        for event in events:
            if isinstance(event, str):
                self._line(event)
            elif event.name == "TS":
                self._blocks.table(table_rows(events))
            elif event.name in _DRAWN:
                end = _DRAWN[event.name]
                for drawn in events:
                    if isinstance(drawn, Call) and drawn.name == end:
                        break
            else:
                self._call(event.name, event.arguments)
        return self._blocks.result()

    def _line(self, text: str) -> None:
        if self._awaited and text.strip():
            awaited, self._awaited = self._awaited, ""
            if awaited == "TP":
                self._tag(text)
            else:
                self._blocks.heading(2 if awaited == "SH" else 3, text)
        elif text.endswith(JOINED) and _is_marker(text[:-1].strip()) and not self._blocks.in_code:
            self._tag(text)  # as DocBook's converters write items
        elif text != JOINED:
            self._shown = True
            self._blocks.text(text)

    def _tag(self, text: str) -> None:
        """The term of a definition; a bullet or a number makes an item of a list."""
        tag = text.replace(JOINED, "").strip()
        if tag in _BULLETS:
            self._blocks.item("-")
        elif number := _NUMBER.fullmatch(tag):
            self._blocks.item(f"{number[1]}.")
        elif tag:
            self._blocks.term(tag)
        else:
            self._blocks.paragraph()

    def _call(self, name: str, arguments: tuple[str, ...]) -> None:
        blocks = self._blocks
        if (font := _in_font(name, arguments)) is not None:
            if font:
                self._line(font)
            return
        if name not in ("ft", "ne", "PD"):
            self._awaited = ""
        if name == "TH":
            blocks.heading(1, f"{arguments[0]}({arguments[1]})" if len(arguments) > 1 else " ".join(arguments))
        elif name in ("SH", "SS"):
            if arguments:
                blocks.heading(2 if name == "SH" else 3, " ".join(arguments))
            else:
                self._awaited = name
        elif name in ("TP", "TQ"):
            if not blocks.in_code:
                blocks.paragraph()
            self._awaited = "TP"
        elif name == "IP":
            blocks.code(False)
            self._tag(arguments[0] if arguments else "")
        elif name in _PARAGRAPHS:
            blocks.paragraph()
        elif name in _CODE_ON:
            blocks.code(True)
        elif name in _CODE_OFF:
            blocks.code(False)
        elif name == "br" and not blocks.in_code:
            blocks.line()
        elif name == "RS" and not blocks.in_code:
            blocks.end_term()
        elif name in ("RE", "in", "ti") and not blocks.in_code:
            blocks.paragraph()
        elif name == "SY":
            blocks.paragraph()
            blocks.text(" ".join(arguments))
        elif name == "OP":
            blocks.text(f"[{' '.join(arguments)}]")
        elif name in ("UR", "MT"):
            self._link, self._shown = (arguments[0] if arguments else "", ""), False
        elif name in ("UE", "ME"):
            if not self._shown:
                blocks.text(self._link[0])
            self._shown = True
            blocks.joined("".join(arguments))
        elif name in ("URL", "MTO") and arguments:
            address, text, after = [*arguments, "", ""][:3]
            blocks.text((text or address) + after)


def _is_marker(text: str) -> bool:
    return text in _BULLETS or _NUMBER.fullmatch(text) is not None


def _in_font(name: str, arguments: tuple[str, ...]) -> str | None:
    """The text of a macro that sets a font; None if it is another one."""
    if name in _PLAIN:
        return " ".join(arguments)
    return "".join(arguments) if name in _ALTERNATING else None


def table_rows(events: Iterator[str | Call]) -> Iterable[list[str]]:
    """The rows of a table, up to .TE: options and formats first, then cells apart by tabs; T{ … T} is one cell."""
    separator = "\t"
    rows: list[list[str]] = []
    in_format, in_block = True, False
    for event in events:
        if isinstance(event, Call):
            if event.name == "TE":
                break
            if event.name == "T&":
                in_format = True
                continue
            text = _in_font(event.name, event.arguments)
            if text is None:
                continue
        else:
            text = event
        if in_format:
            if options := re.match(r"(?:\([^)]*\)|[^;(])*;", text):
                if given := re.search(r"tab\s*\((.)\)", options[0]):
                    separator = given[1]
                text = text[options.end() :]
            in_format = not text.rstrip().endswith(".")
        elif in_block:
            if text.startswith("T}"):
                in_block = False
                in_block = _add_cells(rows[-1], text[2:].split(separator)[1:])
            else:
                rows[-1][-1] += f" {text}"
        elif text.strip() not in ("", "_", "=", "T}"):
            rows.append([])
            in_block = _add_cells(rows[-1], text.split(separator))
    return rows


def _add_cells(row: list[str], cells: list[str]) -> bool:
    """Whether the last of the cells goes on in the lines that follow."""
    for cell in cells:
        cell = cell.strip()
        row.append("" if cell in ("T{", "_", "=", "\\_", "\\^") else plain(cell))
    return bool(cells) and cells[-1].strip() == "T{"

"""The macros of mdoc(7), in which BSD's manual pages are written → text.

Blocks (sections, lists, displays) are told here, what stands in a line by mdoc_line.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmtune.corpus.readers.man_macros import table_rows
from llmtune.corpus.readers.mdoc_line import CLOSING, MACROS, Manners, line_text
from llmtune.corpus.readers.roff import Call
from llmtune.corpus.readers.roff_blocks import Blocks
from llmtune.corpus.readers.roff_text import JOINED


def mdoc_text(events: Iterator[str | Call]) -> str:
    """The text of a page written with mdoc(7)."""
    return _Page().text_of(events)


class _Page:
    def __init__(self) -> None:
        self._blocks = Blocks()
        self._manners = Manners()
        self._lists: list[str] = []  # kinds of the lists that are open
        self._numbers: list[int] = []
        self._rows: list[list[str]] = []
        self._displays: list[bool] = []  # whether each that is open holds code
        self._reference: list[str] | None = None
        self._term: list[str] | None = None  # of an item whose term goes on until .Xc

    def text_of(self, events: Iterator[str | Call]) -> str:
        for event in events:
            if isinstance(event, str):
                self._say(JOINED + event if self._manners.glued and event.strip() else event)
                self._manners.glued = False
            elif event.name == "TS":
                self._blocks.table(table_rows(events))
            elif event.name in _BLOCKS:
                _BLOCKS[event.name](self, event.arguments)
            elif event.name.startswith("%") and self._reference is not None:
                self._reference.append(" ".join(event.arguments))
            elif event.name in MACROS:
                self._inline(event.name, list(event.arguments))
        return self._blocks.result()

    def _say(self, text: str) -> None:
        if self._term is not None:
            self._term.append(text)
        elif self._lists and self._lists[-1] == "column" and self._rows and not self._displays:
            cell = self._rows[-1][-1]  # not looked through again for each line
            self._rows[-1][-1] = cell + text.removeprefix(JOINED) if text.startswith(JOINED) else f"{cell} {text}"
        elif text.startswith(JOINED) or (text in CLOSING and not self._blocks.in_code):
            self._blocks.joined(text.removeprefix(JOINED))
        else:
            self._blocks.text(text)

    def _inline(self, name: str, arguments: list[str]) -> None:
        if self._manners.in_synopsis and name in ("Nm", "Ft", "Fn", "Fo", "In", "Vt") and self._term is None:
            self._blocks.line()
        text = self._words([name, *arguments])
        if name == "Xo" or (name == "Xc" and self._term is None):
            return
        if name == "Xc" and self._term is not None:
            term = _one(*self._term, text)
            self._term = None
            self._begin_item(term)
        elif text:
            self._say(text)

    def _words(self, words: list[str]) -> str:
        """The text of a macro and those that its arguments call."""
        return line_text(words, self._manners)

    def _title(self, arguments: tuple[str, ...]) -> None:
        self._blocks.heading(1, f"{arguments[0]}({arguments[1]})" if len(arguments) > 1 else " ".join(arguments))

    def _section(self, arguments: tuple[str, ...]) -> None:
        self._manners.in_synopsis = arguments[:1] == ("SYNOPSIS",)
        self._manners.parameters = None
        self._blocks.heading(2, " ".join(arguments))

    def _subsection(self, arguments: tuple[str, ...]) -> None:
        self._blocks.heading(3, " ".join(arguments))

    def _paragraph(self, arguments: tuple[str, ...]) -> None:
        self._blocks.paragraph()

    def _line(self, arguments: tuple[str, ...]) -> None:
        self._blocks.line()

    def _description(self, arguments: tuple[str, ...]) -> None:
        self._blocks.text(f"– {self._words(list(arguments))}")

    def _display(self, arguments: tuple[str, ...]) -> None:
        self._displays.append("-literal" in arguments or "-unfilled" in arguments)
        self._blocks.code(True) if self._displays[-1] else self._blocks.paragraph()

    def _display_ends(self, arguments: tuple[str, ...]) -> None:
        if self._displays and self._displays.pop():
            self._blocks.code(False)
        else:
            self._blocks.paragraph()

    def _one_line(self, arguments: tuple[str, ...]) -> None:
        self._blocks.code(True)
        self._blocks.text(self._words(list(arguments)))
        self._blocks.code(False)

    def _list(self, arguments: tuple[str, ...]) -> None:
        kinds = {"-bullet": "-", "-dash": "-", "-hyphen": "-", "-enum": "1", "-column": "column", "-item": ""}
        self._lists.append(next((kinds[part] for part in arguments if part in kinds), "tag"))
        self._numbers.append(0)
        self._blocks.paragraph()

    def _list_ends(self, arguments: tuple[str, ...]) -> None:
        if self._lists:
            self._numbers.pop()
            if self._lists.pop() == "column":
                self._blocks.table(self._rows)
                self._rows = []
        self._blocks.paragraph()

    def _item(self, arguments: tuple[str, ...]) -> None:
        if "Xo" in arguments:
            at = arguments.index("Xo")
            self._term = [self._words([*arguments[:at], *arguments[at + 1 :]])]
        else:
            self._begin_item(self._words(["No", *arguments]) if arguments else "")

    def _begin_item(self, text: str) -> None:
        kind = self._lists[-1] if self._lists else "tag"
        if kind == "column":
            self._rows.append([cell.strip() for cell in text.split("\t")])
        elif kind == "tag":
            self._blocks.term(text)
        elif kind == "":
            self._blocks.paragraph()
        else:
            self._numbers[-1] += 1
            self._blocks.item("-" if kind == "-" else f"{self._numbers[-1]}.")

    def _column(self, arguments: tuple[str, ...]) -> None:
        if self._rows:
            self._rows[-1].append(self._words(list(arguments)))

    def _spacing(self, arguments: tuple[str, ...]) -> None:
        self._manners.spaced = arguments[:1] != ("off",)
        self._manners.glued = False

    def _reference_begins(self, arguments: tuple[str, ...]) -> None:
        self._reference = []

    def _reference_ends(self, arguments: tuple[str, ...]) -> None:
        self._blocks.text(", ".join(self._reference or []) + ".")
        self._reference = None

    def _exit(self, arguments: tuple[str, ...]) -> None:
        name = arguments[1] if len(arguments) > 1 else self._manners.name
        self._blocks.text(f"The {name} utility exits 0 on success, and >0 if an error occurs.")

    def _returns(self, arguments: tuple[str, ...]) -> None:
        name = arguments[1] if len(arguments) > 1 else self._manners.name
        self._blocks.text(
            f"The {name}() function returns the value 0 if successful; otherwise the value -1 is returned and the "
            "global variable errno is set to indicate the error."
        )


def _one(*lines: str) -> str:
    return " ".join(lines).replace(f" {JOINED}", "")


_BLOCKS: dict[str, Callable[[_Page, tuple[str, ...]], None]] = {
    "Dt": _Page._title,
    "Sh": _Page._section,
    "Ss": _Page._subsection,
    "Pp": _Page._paragraph,
    "sp": _Page._paragraph,
    "br": _Page._line,
    "Nd": _Page._description,
    "Bd": _Page._display,
    "Ed": _Page._display_ends,
    "Dl": _Page._one_line,
    "D1": _Page._one_line,
    "Bl": _Page._list,
    "El": _Page._list_ends,
    "It": _Page._item,
    "Ta": _Page._column,
    "Sm": _Page._spacing,
    "Rs": _Page._reference_begins,
    "Re": _Page._reference_ends,
    "Ex": _Page._exit,
    "Rv": _Page._returns,
}

"""A line of mdoc(7): a macro and those that its arguments call (`.Op Fl f Ar file`) → its words (`[-f file]`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmtune.corpus.readers.mdoc_standards import STANDARDS
from llmtune.corpus.readers.roff_text import JOINED

_ENCLOSED = {
    **dict.fromkeys(("Op", "Bq"), "[]"),
    "Pq": "()",
    "Aq": "<>",
    "Brq": "{}",
    "Dq": "“”",
    "Sq": "‘’",
    "Qq": '""',
    "Ql": "``",
}
_OPENED = {  # name: (what opens it, its end, what closes it)
    "Oo": ("[", "Oc", "]"),
    "Bo": ("[", "Bc", "]"),
    "Po": ("(", "Pc", ")"),
    "Ao": ("<", "Ac", ">"),
    "Bro": ("{", "Brc", "}"),
    "Do": ("“", "Dc", "”"),
    "So": ("‘", "Sc", "’"),
    "Qo": ('"', "Qc", '"'),
    "Fo": ("", "Fc", ")"),
    "Xo": ("", "Xc", ""),
    "Eo": ("", "Ec", ""),
}
_CLOSES = {end: closing for _, end, closing in _OPENED.values()}
# macros that only say what a word is
_WORDS_LISTED = "Ad An Ar Cd Cm Dv Em Er Ev Fa Ft Ic Li Ms Nd No Pa Sy Tn Va Vt Sx Mt Ux Lb Lk In St"
_WORDS = frozenset(_WORDS_LISTED.split())
_SYSTEMS = {"Bx": "BSD", "Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Dx": "DragonFly", "Bsx": "BSD/OS"}
_SYSTEMS |= {"At": "AT&T UNIX", "Ux": "UNIX"}
CLOSING, _OPENING = frozenset(".,:;)]?!"), frozenset("([")
_CALLABLE = frozenset({*_ENCLOSED, *_OPENED, *_CLOSES, *_WORDS, *_SYSTEMS, "Fl", "Xr", "Fn", "Nm", "Ns", "Pf", "Ap"})
_CALLABLE |= {"Ta"}
_CALLABLE -= {"Nd", "Lb"}
MACROS = _CALLABLE | _WORDS


@dataclass
class Manners:
    """What lines above decide about those below. name: of what the page is about, which `.Nm` alone stands for; spaced:
    whether words are apart (`.Sm`); glued: whether the next line follows without a space; parameters: how many the
    function that `.Fo` opened has so far, None where none is open."""

    name: str = ""
    spaced: bool = True
    in_synopsis: bool = False
    glued: bool = False
    parameters: int | None = None


def line_text(words: list[str], manners: Manners) -> str:
    """The text of a macro and those that its arguments call; JOINED before it where no space belongs there."""
    return _Line(words, manners).text()


class _Line:
    """Words that are read, from `_at` on, and those that come out."""

    def __init__(self, words: list[str], manners: Manners) -> None:
        end = len(words)
        while end > 1 and words[end - 1] in CLOSING:
            end -= 1
        # Punctuation at the end of the line stands behind what encloses it.
        self._words, self._behind, self._at = words[:end], words[end:], 0
        self._manners = manners
        self._out: list[str] = []
        self._closing: list[str] = []
        self._glued = False
        self._clings = False  # to the line before

    def text(self) -> str:
        while self._at < len(self._words):
            word = self._next()
            if word in _CALLABLE or (self._at == 1 and word in _WORDS):
                self._call(word)
            else:
                self._add(word)
        for mark in [*reversed(self._closing), *self._behind]:
            self._add(mark, glue=True)
        if not self._out:
            return ""
        joined = JOINED if self._manners.glued or self._clings else ""
        self._manners.glued = not self._manners.spaced or (self._glued and self._words[-1] not in _OPENING)
        return joined + " ".join(self._out)

    def _call(self, macro: str) -> None:
        if macro in _ENCLOSED:
            self._open(_ENCLOSED[macro][0])
            self._closing.append(_ENCLOSED[macro][1])
        elif macro in _CLOSES:
            if macro == "Fc":
                self._manners.parameters = None
            if _CLOSES[macro]:
                self._add(_CLOSES[macro], glue=True)
        elif macro in _SYSTEMS:
            self._add(_SYSTEMS[macro])
        elif macro in _OWN_WAYS:
            _OWN_WAYS[macro](self)
        elif macro in _OPENED and _OPENED[macro][0]:
            self._open(_OPENED[macro][0])
        # The others only say what the words behind them are.

    def _next(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def _has_plain(self, also: frozenset[str] = CLOSING, ahead: int = 0) -> bool:
        """Whether the next word, or one further ahead, is neither a macro nor one of `also`."""
        at = self._at + ahead
        return at < len(self._words) and self._words[at] not in _CALLABLE | also

    def _add(self, part: str, glue: bool = False) -> None:
        joined = self._glued or glue or not self._manners.spaced or part in CLOSING
        if self._out and (joined or self._out[-1] in _OPENING):
            self._out[-1] += part
        else:
            self._clings = self._clings or (glue and not self._out)
            self._out.append(part)
        self._glued = part in _OPENING

    def _open(self, part: str) -> None:
        self._add(part)
        self._glued = True

    def _flag(self) -> None:
        found = False
        while self._has_plain(CLOSING | {"|"}):
            self._add(f"-{self._next()}")
            found = True
        if not found:
            self._add("-")
            following = self._words[self._at] if self._at < len(self._words) else ""
            self._glued = following in _CALLABLE and following not in ("Ns", "Ar", "Op")

    def _argument(self) -> None:
        if not self._has_plain():
            self._add("file ...")

    def _page_name(self) -> None:
        if self._has_plain():
            self._manners.name = self._manners.name or self._words[self._at]
        else:
            self._add(self._manners.name)

    def _reference(self) -> None:
        if self._at < len(self._words):
            page = self._next()
            has_section = self._at < len(self._words) and self._words[self._at][:1].isdigit()
            self._add(f"{page}({self._next()})" if has_section else page)

    def _function(self) -> None:
        if self._at < len(self._words):
            name, behind = self._next(), self._words[self._at :]
            taken = [part for part in behind if part not in CLOSING and part not in _CALLABLE]
            self._add(f"{name}({', '.join(taken)})")
            self._at += len(taken)

    def _function_opens(self) -> None:
        if self._at < len(self._words):
            self._open(f"{self._next()}(")
            self._manners.parameters = 0

    def _parameter(self) -> None:
        opened = self._manners.parameters
        while (self._manners.spaced or opened is not None) and self._has_plain(frozenset()):
            if opened:
                self._add(",", glue=True)
            self._add(self._next())
            if opened is not None:
                opened = self._manners.parameters = opened + 1

    def _standard(self) -> None:
        if self._has_plain():
            name = self._next()
            self._add(STANDARDS.get(name, name))

    def _include(self) -> None:
        if self._at < len(self._words):
            header = f"<{self._next()}>"
            self._add(f"#include {header}" if self._manners.in_synopsis else header)

    def _link(self) -> None:
        if self._at < len(self._words):
            address = self._next()
            has_name = self._at < len(self._words) and self._words[self._at] not in CLOSING
            self._add(self._next() if has_name else address)

    def _no_space(self) -> None:
        self._glued = True

    def _apostrophe(self) -> None:
        self._add("'", glue=True)
        self._glued = True

    def _prefix(self) -> None:
        if self._at < len(self._words):
            self._add(self._next())
        self._glued = self._at < len(self._words)

    def _tabulator(self) -> None:
        self._add("\t")


_OWN_WAYS: dict[str, Callable[[_Line], None]] = {
    "Fl": _Line._flag,
    "Ar": _Line._argument,
    "Nm": _Line._page_name,
    "Xr": _Line._reference,
    "Fn": _Line._function,
    "Fo": _Line._function_opens,
    "Fa": _Line._parameter,
    "In": _Line._include,
    "Lk": _Line._link,
    "Ns": _Line._no_space,
    "Ap": _Line._apostrophe,
    "Pf": _Line._prefix,
    "St": _Line._standard,
    "Ta": _Line._tabulator,
}

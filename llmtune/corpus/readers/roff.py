"""roff, as far as manual pages use it: comments, strings, registers, macros and conditions are carried out, and what
is left are lines of text and calls of macros. Nothing is included or run, and no page can loop without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmtune.corpus.readers.roff_text import plain

_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)\\[\"#].*")
_REQUEST = re.compile(r"[.'][ \t]*([^\s\\]*)[ \t]*(.*)", re.DOTALL)
_STRING = re.compile(r"\\\*(?:\[([^\]\s]{0,200}+)(?:\s[^\]\n]{0,1000}+)?\]|\((..)|([^\[(\\]))")
_REGISTER = re.compile(r"\\n[-+]?(?:\[([^\]\n]{0,200}+)\]|\((..)|([^\[(\\]))")
_PARAMETER = re.compile(r"\\\$(?:(\d)|\[(\d{1,9})\]|\((\d\d)|([*@]))")
_NUMBER = r"([-+]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))[a-zA-Z]?"
_COMPARISON = re.compile(rf"{_NUMBER}\s*(>=|<=|==|=|>|<)\s*{_NUMBER}")
_CONDITION = re.compile(r"[^\s'\"\\]\S*")
_MOST_LINES = 10  # carried out for each line of a page, and some: macros can call each other without end
_MOST_CHARACTERS = 20  # for each of a page, and some: arguments and strings can double each time they are put in
_DEEPEST = 40  # strings in strings
_LONGEST_LINE = 65_536  # characters; in a longer one nothing is put in
_STRINGS = {"R": "®", "Tm": "™", "lq": "“", "rq": "”", "(lq": "“", "(rq": "”", "S": ""}  # of man(7)
_REGISTERS = {".g": 1}  # as in groff: pages ask for it before they use what it alone has


@dataclass(frozen=True)
class Call:
    """A macro that is called, and its arguments, without escapes."""

    name: str
    arguments: tuple[str, ...]


class Roff:
    """One page. `events`: its lines of text (str, without escapes) and its calls of macros, in their order."""

    def __init__(self, text: str) -> None:
        self._pending = text.replace("\r\n", "\n").split("\n")[::-1]
        self._macros: dict[str, list[str]] = {}
        self._strings = dict(_STRINGS)
        self._registers = dict(_REGISTERS)
        self._aliases: dict[str, str] = {}
        self._translated: dict[int, str] = {}
        self._else: list[bool] = []
        self._left = 5000 + _MOST_LINES * len(self._pending)
        self._room = 1_000_000 + _MOST_CHARACTERS * len(text)

    def events(self) -> Iterator[str | Call]:
        while self._pending and self._left > 0 and self._room > 0:
            line = self._next_line()
            self._left -= 1
            self._room -= len(line)
            if not line.startswith((".", "'")):
                yield self._plain(self._interpolated(line))
                continue
            request = _REQUEST.match(line)
            name, rest = (request[1], request[2]) if request else ("", "")
            name = self._aliases.get(name, name)
            if name in self._macros:
                self._call(name, _split(self._interpolated(rest)))
            elif name in _CARRIED_OUT:
                _CARRIED_OUT[name](self, rest)
            elif name:
                yield Call(name, tuple(self._plain(part) for part in _split(self._interpolated(rest))))

    def _next_line(self) -> str:
        """The next line without its comment; one that ends in a backslash goes on in the next one."""
        parts = [_COMMENT.sub(r"\1", self._pending.pop())]
        while parts[-1].endswith("\\") and not parts[-1].endswith("\\\\") and self._pending:
            parts[-1] = parts[-1][:-1]
            parts.append(_COMMENT.sub(r"\1", self._pending.pop()))
        return "".join(parts)

    def _plain(self, text: str) -> str:
        text = plain(text)
        return text.translate(self._translated) if self._translated else text

    def _interpolated(self, text: str) -> str:
        for _ in range(_DEEPEST):
            if ("\\*" not in text and "\\n" not in text) or len(text) > _LONGEST_LINE:
                break
            before = text
            text = _STRING.sub(lambda found: self._within(self._strings.get(_named(found), "")), text)
            text = _REGISTER.sub(lambda found: self._within(str(self._registers.get(_named(found), 0))), text)
            if text == before:
                break
        return text

    def _within(self, value: str) -> str:
        """What is put into a line, as far as there is room for it."""
        value = value[: max(self._room, 0)]
        self._room -= len(value)
        return value

    def _call(self, name: str, arguments: list[str]) -> None:
        """Put the body of a macro in place of its call."""
        every = {"*": " ".join(arguments), "@": " ".join(f'"{part}"' for part in arguments)}

        def argument(found: re.Match[str]) -> str:
            if found[4]:
                return self._within(every[found[4]])
            number = int(found[1] or found[2] or found[3])
            return self._within(arguments[number - 1]) if 0 < number <= len(arguments) else ""

        self._registers[".$"] = len(arguments)
        body = [_PARAMETER.sub(argument, line.replace("\\\\", "\\")) for line in self._macros[name]]
        self._left -= len(body)
        self._room -= sum(map(len, self._macros[name]))
        self._pending.extend(reversed(body))

    def _define(self, rest: str) -> None:
        """.de, .am, .ig: everything up to `..`, or to the name that is given."""
        name, end = [*rest.split(), "", ""][:2]
        body = self._macros.setdefault(name, []) if name else []
        body.clear()
        while self._pending:
            line = self._pending.pop()
            request = _REQUEST.match(line)
            if request and (request[1] == (end or ".") or (not end and re.fullmatch(r"[.'][ \t]*\.", line.rstrip()))):
                break
            body.append(line)
        # A page's own form of a standard macro only changes how it looks.
        if name in _STANDARD:
            del self._macros[name]

    def _append(self, rest: str) -> None:
        """.am: what a page adds to a macro is how it looks."""
        self._ignore(" ".join(rest.split()[1:2]))

    def _ignore(self, rest: str) -> None:
        self._define(f"\0 {rest.strip()}")

    def _string(self, rest: str) -> None:
        name, _, value = rest.lstrip().partition(" ")
        self._strings[name] = self._interpolated(value.lstrip(" ").removeprefix('"'))[:10_000]

    def _register(self, rest: str) -> None:
        name, value = [*self._interpolated(rest).split(), "", ""][:2]
        number = re.match(r"([-+]?)(\d+)", plain(value))
        if name and number:
            before = self._registers.get(name, 0) if number[1] else 0
            self._registers[name] = before + (-1 if number[1] == "-" else 1) * int(number[2][:9])

    def _remove(self, rest: str) -> None:
        for name in rest.split():
            self._macros.pop(name, None)
            self._strings.pop(name, None)

    def _alias(self, rest: str) -> None:
        new, old = [*rest.split(), "", ""][:2]
        if new and old and new != self._aliases.get(old, old):
            self._aliases[new] = self._aliases.get(old, old)

    def _translate(self, rest: str) -> None:
        characters = plain(rest.rstrip())
        for index in range(0, len(characters) - 1, 2):
            self._translated[ord(characters[index])] = characters[index + 1]

    def _if(self, rest: str) -> None:
        self._branch(*self._condition(rest))

    def _if_else(self, rest: str) -> None:
        holds, rest = self._condition(rest)
        self._else.append(not holds)
        self._branch(holds, rest)

    def _otherwise(self, rest: str) -> None:
        self._branch(self._else.pop() if self._else else False, rest)

    def _skip(self, rest: str) -> None:
        """.while: pages that count are not read by people."""
        self._branch(False, self._condition(rest)[1])

    def _branch(self, taken: bool, rest: str) -> None:
        """Carry out what stands behind a condition, or pass over it, a line or a block in braces."""
        rest = rest.lstrip()
        if taken:
            self._pending.append(rest.removeprefix("\\{").lstrip() if rest.startswith("\\{") else rest)
            return
        depth = rest.count("\\{") - rest.count("\\}")
        while depth > 0 and self._pending:
            line = self._pending.pop()
            depth += line.count("\\{") - line.count("\\}")

    def _condition(self, rest: str) -> tuple[bool, str]:
        """(whether it holds, what follows): n is true and t false, for this is a terminal's page."""
        rest = self._interpolated(rest.lstrip())
        negated = rest.startswith("!")
        rest = rest[negated:].lstrip()
        holds = False
        if rest[:1] in ("'", '"'):
            parts = rest[1:].split(rest[0], 2)
            holds, rest = len(parts) == 3 and parts[0] == parts[1], parts[2] if len(parts) == 3 else ""
        elif found := re.match(r"([drcmF])\s*(\S+)\s?(.*)", rest, re.DOTALL):
            known = (self._registers,) if found[1] == "r" else (self._macros, self._strings)
            holds, rest = any(found[2] in names for names in known), found[3]
        elif rest[:1] in ("n", "o", "t", "e", "v"):
            holds, rest = rest[0] in "no", rest[1:]
        elif found := re.match(r"\(.*?\)(?=\s)|" + _CONDITION.pattern, rest):
            holds, rest = _is_positive(found[0]), rest[found.end() :]
        return holds != negated, rest


def _named(found: re.Match[str]) -> str:
    return found[1] if found[1] is not None else found[2] or found[3]


def _is_positive(expression: str) -> bool:
    """The value of a numeric condition: comparisons joined by & (and) or : (or), else whether it is above zero."""
    expression = expression.strip("()")
    if ":" in expression:
        return any(_is_positive(part) for part in expression.split(":"))
    if "&" in expression:
        return all(_is_positive(part) for part in expression.split("&"))
    if found := _COMPARISON.search(expression):
        left, right = float(found[1]), float(found[3])
        return {">": left > right, "<": left < right, ">=": left >= right, "<=": left <= right}.get(
            found[2], left == right
        )
    return re.match(r"0*[1-9]", expression) is not None


def _split(rest: str) -> list[str]:
    """The arguments of a macro: apart by spaces, or in double quotes, in which two are one. Escapes stay."""
    found: list[str] = []
    rest = rest.strip(" \t") if not rest.endswith("\\ ") else rest.lstrip(" \t")
    at = 0
    while at < len(rest):
        if rest[at] in " \t":
            at += 1
        elif quoted := _QUOTED.match(rest, at):
            found.append(quoted[1].replace('""', '"'))
            at = quoted.end()
        else:
            word = _WORD.match(rest, at)
            if word is None:
                break
            found.append(word[0])
            at = word.end()
    return found


_QUOTED = re.compile(r'"((?:[^"]|"")*)(?:"|$)')
_WORD = re.compile(r"(?:\\.|[^ \t\\]|\\$)+")
_CARRIED_OUT = {
    "de": Roff._define,
    "de1": Roff._define,
    "am": Roff._append,
    "am1": Roff._append,
    "dei": Roff._ignore,
    "ig": Roff._ignore,
    "ds": Roff._string,
    "ds1": Roff._string,
    "nr": Roff._register,
    "rm": Roff._remove,
    "als": Roff._alias,
    "tr": Roff._translate,
    "if": Roff._if,
    "ie": Roff._if_else,
    "el": Roff._otherwise,
    "while": Roff._skip,
}
_STANDARD_LISTED = "TH SH SS PP P LP TP TQ IP HP RS RE B I SM SB BR BI IB IR RB RI EX EE UR UE MT ME SY YS OP TS TE"
_STANDARD = frozenset(_STANDARD_LISTED.split())

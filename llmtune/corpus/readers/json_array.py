"""The elements of a JSON array of any length, one at a time: memory holds one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

_SPACE = re.compile(r"[ \t\r\n]*")
_CHUNK = 1 << 20  # characters


def elements(file: TextIO, longest: int) -> Iterator[Any]:
    """The elements of the array that a text is. Raises ValueError where it is not JSON, or an element has more than
    about `longest` characters; those before it have been given."""
    text = _Text(file, longest)
    text.expect("[")
    if text.peek() != "]":
        yield text.value()
        while text.peek() == ",":
            text.expect(",")
            yield text.value()
    text.expect("]")
    if text.peek():
        raise ValueError("something follows the array")


class _Text:
    """A text of which a piece is in memory, from where it is read on."""

    def __init__(self, file: TextIO, longest: int) -> None:
        self._file = file
        self._longest = longest
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        """Go past a character. Raises ValueError when another one stands there."""
        if (found := self.peek()) != character:
            raise ValueError(f"expected {character!r}, found {found!r}" if found else f"ends before {character!r}")
        self._at += 1

    def value(self) -> Any:
        """The next value. Raises ValueError."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise
                continue
            if (end == len(self._text) or self._text[end] in ".eE") and self._more():
                continue  # a number goes on, or may do so
            self._at = end
            return value

    def _more(self) -> bool:
        """Read as much again as is being looked at; False at the end."""
        left = len(self._text) - self._at
        if left > self._longest:
            raise ValueError(f"an element of more than {self._longest:,} characters")
        chunk = self._file.read(max(_CHUNK, left))
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)

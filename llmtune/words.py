"""Sizes, times, and what others wrote, as a person reads them."""

from __future__ import annotations

import re
from pathlib import Path

# Control characters, with which a terminal can be made to do things, and the marks that turn the direction of writing,
# with which a text can be made to look like another.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text that can be written as UTF-8: lone surrogates, as in file names that are not UTF-8, become `\\udce9`."""
    return text.encode("utf-8", "backslashreplace").decode()


def visible(text: str) -> str:
    """`printable` text of one line in which control characters are spelt out too: `\\x1b[31m`."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def from_here(path: Path) -> str:
    """A path as it is typed in the current folder: without that folder's own where it lies below."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def human_bytes(number: float) -> str:
    """Bytes in the largest decimal unit that keeps them above one: 98.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Seconds as 4 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 1:
        return "under 1 s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

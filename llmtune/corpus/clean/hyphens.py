"""Words broken at the ends of lines, put together again where the source itself knows the word.

`manage-` and `ment` are joined when `management` stands elsewhere in the source, and more often than `manage-ment`.
Where the word with its hyphen is the more frequent one (`well-known`), the two parts come together on one line and the
hyphen stays. Where neither is known, or both are as frequent, nothing changes. For texts whose reader keeps line
breaks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping

# A word of two letters or more, a hyphen at the end of its line, and the next line going on in small letters; what
# hangs on the second part (a comma, a bracket) goes with it.
_BROKEN = re.compile(
    r"(?<![^\W\d_])(?<![-\w./\\@#$%&*=<>])([^\W\d_]{2,})[-\u2010][ \t]*\n"
    r"([ \t]*)([^\W\d_]{2,}(?![\w(]))([^\s\w]*)([ \t]*)(\n?)"
)
_ENDS_BROKEN = re.compile(r"[-\u2010][ \t]*\n")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


class BrokenWords:
    """Notes the words that could be broken ones, of the texts that keep line breaks. Holds no text."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()

    def look(self, text: str) -> None:
        """Note those of a text, joined and with their hyphens."""
        if _ENDS_BROKEN.search(text):
            for found in _BROKEN.finditer(text):
                head, tail = found[1].lower(), found[3]
                if tail[0].islower():
                    tail = tail.lower()
                    self.wanted.update((head + tail, f"{head}-{tail}"))


def count_words(text: str, wanted: Container[str]) -> Counter[str]:
    """How often each of the wanted words stands within a line."""
    words = Counter(_WORD.findall(text.lower().replace("\u2010", "-")))
    return Counter({word: times for word, times in words.items() if word in wanted})


class Hyphens:
    """Joins broken words. counts: of the wanted words, in all texts of the source."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = Counter(counts)

    def join(self, text: str, keep_lines: bool) -> tuple[str, int]:
        """The text, and how many of its words were joined. keep_lines: the line ends after the word, not nowhere."""
        if not self._counts or not _ENDS_BROKEN.search(text):
            return text, 0
        joined = 0

        def mended(found: re.Match[str]) -> str:
            nonlocal joined
            head, indent, tail, rest, space, end = found.groups()
            whole = self._counts[(head + tail).lower()]
            apart = self._counts[f"{head}-{tail}".lower()]
            if not tail[0].islower() or whole == apart:
                return found[0]
            joined += 1
            word = f"{head}{'' if whole > apart else '-'}{tail}{rest}"
            if end or not keep_lines or found.end() == len(text):
                return f"{word}{space}{end}"
            return f"{word}\n{indent}"

        return _BROKEN.sub(mended, text), joined

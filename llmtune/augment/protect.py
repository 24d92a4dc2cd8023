"""What no translator may touch: code, identifiers, URLs, numbers, file names, placeholders.

Everything that is not plainly prose is protected, so that nothing is forgotten: a token stays open to translation only
when it is made of letters in the case of a word (`tables`, `Tables`, `write-ahead`), with ordinary punctuation around
it. `work_mem`, `VACUUM`, `PostgreSQL`, `--login`, `9.33`, `{name}`, `/etc/hosts` are protected; neighbours make one
span.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

# A masked text has `[1]`, `[2]`, … where its spans stood, and no other bracket: brackets are protected themselves.
PLACEHOLDER = re.compile(r"\[(\d+)\]")
_OPENING = "\"'“‘«(¿¡—–"
_CLOSING = "\"'”’»).,;:!?…—–"
_PUNCTUATION = frozenset(_OPENING + _CLOSING + "-")
# What is glued together is one token: a code span, a placeholder or a tag with the blanks in it, and what touches it.
_TOKEN = re.compile(
    r"(?:(?<!`)(`+)(?!`).{1,1000}?(?<!`)\1(?!`)|\{[^{}\n]{0,1000}\}|<[^<>\s][^<>\n]{0,1000}>|\S)+", re.DOTALL
)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]$")  # e.g, i.e, U.S
_JOINTS = re.compile("[-'’—–…]")
_ALONE = frozenset("IA")  # words of one capital letter


def mask(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with `[1]`, `[2]`, … in the place of its protected spans, and the spans in that order.

    Masking is undone by `unmask`; white space between two spans belongs to the one span they become."""
    parts: list[str] = []
    spans: list[str] = []
    end = 0
    for start, stop in _merged(text):
        spans.append(text[start:stop])
        parts += [text[end:start], f"[{len(spans)}]"]
        end = stop
    return "".join([*parts, text[end:]]), tuple(spans)


def unmask(masked: str, spans: Sequence[str]) -> str | None:
    """The text with its spans back in the places of `[1]`, `[2]`, …, in whatever order; None when not every span is
    there exactly once, or a bracket is left over."""
    pieces = PLACEHOLDER.split(masked)
    numbers = [int(digits) for digits in pieces[1::2]]
    if sorted(numbers) != list(range(1, len(spans) + 1)) or any(set("[]") & set(piece) for piece in pieces[::2]):
        return None
    pieces[1::2] = [spans[number - 1] for number in numbers]
    return "".join(pieces)


def protected_tokens(text: str) -> Counter[str]:
    """How often each protected token (a span, cut at white space) stands in a text."""
    return Counter(token for start, stop in _spans(text) for token in text[start:stop].split())


def _merged(text: str) -> Iterator[tuple[int, int]]:
    """Protected spans, those with nothing but white space between them as one."""
    start = stop = -1
    for left, right in _spans(text):
        if start >= 0 and not text[stop:left].strip():
            stop = right
            continue
        if start >= 0:
            yield start, stop
        start, stop = left, right
    if start >= 0:
        yield start, stop


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of every protected token, from left to right, without the punctuation around it."""
    for found in _TOKEN.finditer(text):
        token = found[0]
        if (token.isalpha() and token.islower()) or set(token) <= _PUNCTUATION:
            continue
        left = len(token) - len(token.lstrip(_OPENING))
        right = len(token.rstrip(_CLOSING))
        # The brackets of `foo()` and `(s)he` are theirs.
        while token[right : right + 1] == ")" and token.count("(", left, right) > token.count(")", left, right):
            right += 1
        while left and token[left - 1] == "(" and token.count(")", left, right) > token.count("(", left, right):
            left -= 1
        core = token[left:right]
        if _is_prose(core):
            continue
        if token[right : right + 1] == "." and _INITIALS.match(core):
            right += 1
        yield found.start() + left, found.start() + right


def _is_prose(core: str) -> bool:
    return all(part.isalpha() and _is_word(part) for part in _JOINTS.split(core) if part) and core[0].isalpha()


def _is_word(letters: str) -> bool:
    """Lower case, a capital and lower case, or letters without case."""
    rest = letters[1:]
    if not rest:
        return letters in _ALONE or not letters.isupper()
    return rest == rest.lower()

"""How a document writes its words, found once: its headings are asked about it each, and a long one has thousands."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SMALL = re.compile(r"(?<![\w`.-])[a-z]+(?:-[a-z]+)*(?![\w`-])")
_WITHIN = re.compile(r"(?<=[a-z,;] )[^\W\d_a-z][^ ]{0,60}")
_ENDS = re.compile(r"\b")
_CAPITALS = re.compile(r"[A-Z]{2,}")
_CODE = re.compile(r"`(?=([A-Z]+(?: [A-Z]+)*)`)")


@dataclass(frozen=True)
class Wording:
    """small: words that stand in small letters, not in code; proper: those with a capital that follow another within a
    sentence; capitals: those that stand in capitals more than once; code: those in capitals between code marks."""

    small: frozenset[str]
    proper: frozenset[str]
    capitals: frozenset[str]
    code: frozenset[str]


def wording_of(text: str) -> Wording:
    """The wording of a text, in one pass for each kind."""
    once: set[str] = set()
    more: set[str] = set()
    for found in _CAPITALS.finditer(text):
        (more if found[0] in once else once).add(found[0])
    within = {found[0] for found in _WITHIN.finditer(text)}
    return Wording(
        frozenset(found[0] for found in _SMALL.finditer(text)),
        # `Multi-Version,` is Multi, and Multi-Version
        frozenset(word[: end.start()] for word in within for end in _ENDS.finditer(word)),
        frozenset(more),
        frozenset(found[1] for found in _CODE.finditer(text)),
    )

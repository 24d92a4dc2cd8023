"""A document as its sections: headings, and below each the blocks of its text in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from llmtune.corpus.structure import BULLET, FENCE, definition_of, heading_of, is_table, items_of

Kind = Literal["prose", "code", "list", "table", "definition", "other"]

_ASIDE = re.compile(r"(?:note|tip|hint|warning|caution|important|attention|danger|example)s?:?", re.IGNORECASE)
_FIGURES = re.compile(r"(?:table|figure|example|listing) [\dA-Z.-]+.{0,100}", re.IGNORECASE)
_SIGNATURE = re.compile(r"[\w.]+\([^()]*\)(?: ?(?:->|=) ?.+)?:?")
_SPANS = re.compile(r"(?:`[^`]+`[,/ ]*)+")  # terms that nothing defines as such
_OPENING = re.compile(r"[\w`\"“‘'(*$\\]")  # of prose: no indentation, quotation, table, option
_PAGE_MARKS = re.compile(r"\(\d\w?\)(?: Manual Page)?$| Manual Page$")


@dataclass(frozen=True)
class Block:
    """Lines between empty ones. text: of prose, on one line; of code, with its fences; else as it stands. terms: of a
    definition, what `text` defines."""

    kind: Kind
    text: str
    terms: tuple[str, ...] = ()


@dataclass
class Section:
    """headings: from the document's title to its own; code marks stay in them, numbers do not. blocks: those before the
    next heading, whatever its level. aside: they begin with a remark (Note, Tip, Warning), whose heading is none of a
    section and not among the headings."""

    headings: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)
    aside: bool = False

    @property
    def heading(self) -> str:
        return self.headings[-1] if self.headings else ""

    @property
    def title(self) -> str:
        return self.headings[0] if self.headings else ""


def sections_of(text: str) -> list[Section]:
    """The sections of a text in its order; what stands before the first heading has none."""
    found = [Section(())]
    title = ""
    above: list[tuple[int, str]] = []  # (level, heading), from the widest to the nearest
    for lines in _paragraphs(text):
        rest = lines
        if not FENCE.match(lines[0]) and (heading := heading_of(lines)):
            level, name, rest = heading
            name = _PAGE_MARKS.sub("", name).strip()
            if _ASIDE.fullmatch(name):
                found.append(Section(found[-1].headings, aside=True))
            else:
                title = title or name
                above = [*(one for one in above if one[0] < level), (level, name)]
                found.append(Section(tuple(dict.fromkeys([title, *(one for _, one in above)]))))
        if rest:
            found[-1].blocks.append(_block(rest))
    return found


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Lines between empty ones; a fenced block is one whole, whatever stands in it."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        opened = FENCE.match(line)
        if fence:
            lines.append(line)
            if opened and opened[1].startswith(fence) and line.strip() == opened[1]:
                yield lines
                lines, fence = [], ""
            continue
        if (opened or not line.strip()) and lines:
            yield lines
            lines = []
        if opened:
            fence = opened[1]
        if line.strip():
            lines.append(line.rstrip())
    if lines and not fence:  # a fence that is never closed ends in the middle of something
        yield lines


def _block(lines: list[str]) -> Block:
    whole = "\n".join(lines)
    if FENCE.match(lines[0]):
        return Block("code", whole)
    if is_table(lines):
        return Block("table", whole)
    if BULLET.match(lines[0]):
        return Block("list", whole)
    if definition := definition_of(lines):
        ((_, said),) = definition
        at = lines.index(said) if said in lines else 1
        while at < len(lines) - 1 and " " not in lines[at]:
            at += 1  # another spelling of the term
        return Block("definition", _joined(lines[at:]).removeprefix(": "), tuple(lines[:at]))
    prose = _joined(lines)
    if len(lines) > 1 and _SPANS.fullmatch(lines[0]):
        return Block("other", whole)
    if not _OPENING.match(lines[0]) or items_of(lines) or _FIGURES.fullmatch(prose) or _SIGNATURE.fullmatch(prose):
        return Block("other", whole)
    return Block("prose", prose)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)

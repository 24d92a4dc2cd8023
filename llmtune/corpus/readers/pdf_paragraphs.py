"""The lines of a PDF → paragraphs, headings and code as Markdown.

Nothing in most PDFs says where a paragraph ends; it is told as a reader tells it: by a gap, an indent, a bullet,
another size, or a line that ends although the next word would have fitted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from llmtune.corpus.readers.fence import fenced
from llmtune.corpus.readers.pdf_lines import Line

_BULLET = re.compile(r"[•◦▪‣∙●○■□➢✓\uf0b7\uf0a7–—*·-]\s+\S")
_NUMBER = re.compile(r"(?:\(?(?:\d{1,3}|[a-zA-Z])[.)]|\[\d{1,3}\])\s+\S")
_SENTENCE_ENDS = re.compile(r"[.!?:;…。！？：；]['\"”’»)\]]*$")
_LEADERS = re.compile(r"(?:\s*[.·…]){4,}\s*(?=\S{1,8}$)")  # of a table of contents
_LONGEST_WITH_LEADERS = 500  # characters; to look for them takes time that grows with the square
_DEEPEST_INDENT = 200  # characters of code
_GAP = 1.25  # line spacings, from which on a gap parts paragraphs
_SPACING = 1.2  # em, where a document has too few lines to tell
_INDENT = 0.8  # em
_ROOM = 1.0  # em that a word needs beside its usual width to stay on a line
_OVERFULL = 2.0  # points
_SAME_SIZE = 0.08
_HEADING = 1.15  # times the size of the body
_HEADING_CHARACTERS = 200  # a longer one is a paragraph in large print
_LEVELS = 4  # a level for each size; smaller ones share the last


@dataclass(slots=True)
class _Block:
    """Lines that belong together. ends: what stands between them: a space, nothing, or a line end."""

    page: int
    lines: list[Line]
    code: bool = False
    ends: list[str] = field(default_factory=list)

    @property
    def size(self) -> float:
        return _rounded(self.lines[0].size)


def markdown_of(pages: Sequence[list[Line]]) -> str:
    """The text of a document from the lines of its pages in reading order. A hyphen at the end of a line keeps its line
    end: whether it belongs to the word is not known here."""
    spacing = _spacings(pages)
    blocks = [block for number, page in enumerate(pages) for block in _blocks(page, number, spacing)]
    levels = _levels(blocks)
    texts: list[str] = []
    before: _Block | None = None
    for block in blocks:
        if before is not None and _goes_on(before, block):
            texts[-1] += _end(before.lines[-1], block.lines[0]) + _text(block)
        elif level := levels.get(block.size) if _may_be_heading(block) else None:
            texts.append(f"{'#' * level} {' '.join(_text(block).split())}")
        elif before is not None and _is_item(before) and _is_item(block):
            texts[-1] += "\n" + _text(block)
        else:
            texts.append(_text(block))
        before = block
    return "\n\n".join(texts)


def _rounded(size: float) -> float:
    return round(2 * size) / 2


def _spacings(pages: Iterable[list[Line]]) -> dict[float, float]:
    """The usual distance of two lines, in points, for each size of type."""
    found: dict[float, list[float]] = {}
    for page in pages:
        for one, other in pairwise(page):
            distance = one.middle - other.middle
            if _alike(one, other) and 0.8 * one.size < distance < 2.5 * one.size:
                found.setdefault(_rounded(one.size), []).append(distance)
    return {size: median(distances) for size, distances in found.items() if len(distances) > 2}


def _alike(one: Line, other: Line) -> bool:
    return abs(one.size - other.size) <= _SAME_SIZE * max(one.size, other.size)


def _blocks(lines: list[Line], page: int, spacings: dict[float, float]) -> list[_Block]:
    """The paragraphs, code blocks and headings of a page."""
    blocks: list[_Block] = []
    for line, edge in zip(lines, _edges(lines), strict=True):
        block = blocks[-1] if blocks else None
        end = _follows(block, line, edge, spacings.get(_rounded(line.size), _SPACING * line.size)) if block else None
        if block is None or end is None:
            blocks.append(_Block(page, [line], code=line.fixed is True))
        else:
            block.lines.append(line)
            block.ends.append(end)
            block.code = block.code or (len(block.lines) == 2 and line.fixed is True and block.lines[0].fixed is None)
    return blocks


def _edges(lines: list[Line]) -> list[float]:
    """For each line, the edge of its column: how far to the right two of its neighbours above and below reach. One
    alone may hang over."""
    edges: list[float] = []
    run: list[Line] = []

    def end_run() -> None:
        ends = sorted((line.right for line in run), reverse=True)
        near = (one for one, other in pairwise(ends) if one - other < _OVERFULL)
        edges.extend([next(near, ends[0] if ends else 0)] * len(run))
        run.clear()

    for line in lines:
        if run and (line.middle >= run[-1].middle or line.left > run[-1].right or line.right < run[-1].left):
            end_run()
        run.append(line)
    end_run()
    return edges


def _follows(block: _Block, line: Line, edge: float, spacing: float) -> str | None:
    """What stands between a block and a line that goes on with it; None where the line begins a block of its own."""
    last = block.lines[-1]
    distance = last.middle - line.middle
    apart = line.left > last.right or line.right < last.left
    if block.code and line.fixed is not False and 0 < distance < 2.2 * spacing:
        return "\n\n" if distance > 1.5 * spacing else "\n"
    if distance <= 0 or distance > _GAP * spacing or apart or not _alike(last, line) or block.code:
        return None
    first_word = (line.right - line.left) * len(line.text.split(" ", 1)[0]) / len(line.text)
    ended = not last.broken and edge - last.right > first_word + _ROOM * line.size
    finished = ended or bool(_SENTENCE_ENDS.search(last.text))
    if line.fixed is True and (finished or abs(line.left - last.left) > _INDENT * line.size):
        return "\n" if last.fixed is None and len(block.lines) == 1 else None
    if _BULLET.match(line.text) or (_NUMBER.match(line.text) and (finished or _NUMBER.match(block.lines[0].text))):
        return None
    if _is_row(last.text) or _is_row(line.text):
        return "\n"
    shift = line.left - last.left
    if abs(shift) > _INDENT * line.size:
        centred = abs(line.left + line.right - last.left - last.right) < line.size
        begun = len(block.lines) == 1 and (not ended or _is_item(block))
        if not begun and not (centred and ended):
            return None
    if ended:
        return None if _SENTENCE_ENDS.search(last.text) else "\n"
    return _end(last, line)


def _is_row(text: str) -> bool:
    """Whether a line is a row of a table or of a table of contents."""
    return "  " in text or (len(text) <= _LONGEST_WITH_LEADERS and bool(_LEADERS.search(text)))


def _is_item(block: _Block) -> bool:
    """Whether a block is an item of a list."""
    text = block.lines[0].text
    return not block.code and bool(_BULLET.match(text) or _NUMBER.match(text))


def _end(line: Line, other: Line) -> str:
    """What joins two lines of a paragraph."""
    if line.broken:
        return "\n"
    return "" if _is_unspaced(line.text[-1]) and _is_unspaced(other.text[0]) else " "


def _is_unspaced(character: str) -> bool:
    """Whether a character is of a script that writes no spaces: Chinese, Japanese and their punctuation."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or "\uff00" <= character <= "\uffef"


def _goes_on(before: _Block, block: _Block) -> bool:
    """Whether a paragraph goes on in the next column or on the next page."""
    last, first = before.lines[-1], block.lines[0]
    jumps = before.page != block.page or first.middle > last.middle
    if not jumps or before.code or block.code or not _alike(last, first) or _is_row(last.text) or _is_row(first.text):
        return False
    begun = first.text[0].islower() or _is_unspaced(first.text[0])
    return last.broken or (begun and not _SENTENCE_ENDS.search(last.text))


def _text(block: _Block) -> str:
    if block.code:
        return _code(block)
    text = block.lines[0].text
    for end, line in zip(block.ends, block.lines[1:], strict=True):
        text += end + line.text
    if _BULLET.match(text):
        text = "- " + text[1:].lstrip()
    lines = text.split("\n")
    return "\n".join(_LEADERS.sub(" … ", line) if len(line) <= _LONGEST_WITH_LEADERS else line for line in lines)


def _code(block: _Block) -> str:
    """A block of code, indented as it is drawn."""
    left = min(line.left for line in block.lines)
    text = ""
    for end, line in zip(["", *block.ends], block.lines, strict=True):
        indent = round(min(_DEEPEST_INDENT, (line.left - left) / (line.pitch or line.size)))
        text += end + " " * indent + line.text
    return fenced(text)


def _levels(blocks: list[_Block]) -> dict[float, int]:
    """The level of headings of each size that is larger than the body's."""
    characters: Counter[float] = Counter()
    for block in blocks:
        for line in block.lines:
            characters[_rounded(line.size)] += len(line.text)
    if not characters:
        return {}
    body = characters.most_common(1)[0][0]
    sizes = {block.size for block in blocks if block.size >= _HEADING * body and _may_be_heading(block)}
    return {size: min(rank, _LEVELS) for rank, size in enumerate(sorted(sizes, reverse=True), 1)}


def _may_be_heading(block: _Block) -> bool:
    text = " ".join(line.text for line in block.lines)
    return not block.code and len(text) <= _HEADING_CHARACTERS and sum(map(str.isalpha, text)) >= 2

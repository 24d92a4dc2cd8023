"""A Markdown-like text as pieces: what stays as it is, and the sentences that may be translated.

Fenced and indented code, tables, headings, and the marks of lists and quotations stay. Paragraphs are cut into
sentences; the lines of a paragraph that was wrapped at a width are taken together, so that a sentence is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmtune.augment.protect import PLACEHOLDER, mask, unmask

LEAST_WORDS = 4  # of prose; shorter ones (terms, labels, signatures) are no sentences
_LONGEST = 2000  # characters; what is longer is a list or data, not a sentence
_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(?:[-*+][ \t]+|\d+[.)][ \t]+)?(`{3,}|~{3,})")
_MARK = re.compile(r"(?:[ \t]*(?:>[ \t]?|[-*+][ \t]+|\d{1,9}[.)][ \t]+))*[ \t]*")
_ITEM = re.compile(r"([ \t]*)([-*+]|\d{1,9}[.)])[ \t]+")
_KEPT_LINE = re.compile(r"\s*(?:>\s*)*(?:#{1,6}\s|\||[-=*_]{3,}\s*$|\[[^\]]+\]:\s)")
_WRAPPED = 40  # a line shorter than this was ended on purpose
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)]*(\s+)(?=[\"'“‘«(\[¿¡]*[^\W_a-zß-öø-ÿ])")
_ABBREVIATIONS = frozenset(
    ("al", "approx", "cf", "ch", "dr", "ed", "eds", "eq", "esp", "etc", "fig", "figs", "incl", "max", "min", "mr",
     "mrs", "ms", "no", "nr", "nos", "pp", "prof", "resp", "sec", "st", "vol", "vs")
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Segment:
    """A sentence. text: as it stands; masked: what the translator gets, protected spans as `[1]`, `[2]`, …, white space
    as single blanks; spans: what stands for them."""

    text: str
    masked: str
    spans: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """Its words outside protected spans."""
        return words_of(self.masked)


def words_of(masked: str) -> list[str]:
    """The words of a masked text, in order."""
    return _WORD.findall(masked)


def pieces_of(text: str) -> Iterator[str | Segment]:
    """The pieces of a text, in order: their texts, joined, are the text."""
    for block, is_prose in _blocks(text):
        if is_prose:
            yield from _sentences(block)
        else:
            yield block


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """(piece, whether it is prose): marks at the beginning of lines and everything that is no prose stay."""
    fence = ""
    items: list[int] = []  # columns at which the content of the open list items begins
    after_blank = True
    prose: list[str] = []

    def end_paragraph() -> Iterator[tuple[str, bool]]:
        if prose:
            yield "".join(prose), True
            prose.clear()

    for line in text.splitlines(keepends=True):
        opened = _FENCE.match(line)
        if fence or opened:
            yield from end_paragraph()
            yield line, False
            if not fence and opened:
                fence = opened[1]
            elif opened and opened[1].startswith(fence) and not line.strip(" \t>\n`~"):
                fence = ""
            after_blank = False
            continue
        if not line.strip():
            yield from end_paragraph()
            yield line, False
            after_blank = True
            continue
        indent = len(line) - len(line.lstrip(" "))
        while items and indent < items[-1] and (after_blank or _ITEM.match(line)):
            items.pop()
        is_code = after_blank and indent >= (items[-1] if items else 0) + 4
        if is_code or line.startswith("\t") or _KEPT_LINE.match(line):
            yield from end_paragraph()
            yield line, False
            after_blank = after_blank and is_code  # an indented block goes on
            continue
        after_blank = False
        marked = _MARK.match(line)
        width = marked.end() if marked else 0
        if item := _ITEM.match(line):
            items.append(item.end())
        if prose and line[:width].strip() == "" and _goes_on(prose[-1], line[width:]):
            prose.append(line)
            continue
        yield from end_paragraph()
        if width:
            yield line[:width], False
        prose.append(line[width:])
    yield from end_paragraph()


def _goes_on(above: str, line: str) -> bool:
    """Whether a line is the next one of a paragraph wrapped at a width."""
    return len(above.rstrip()) >= _WRAPPED and above.rstrip()[-1] not in ".!?:;…" and not line[0].isupper()


def _sentences(paragraph: str) -> Iterator[str | Segment]:
    """The sentences of a paragraph, and the white space between them."""
    masked, spans = mask(paragraph)
    start = number = 0
    for end, after in [*_borders(masked), (len(masked.rstrip()), len(masked))]:
        body = masked[start:end]
        count = len(PLACEHOLDER.findall(body))
        renumbered = PLACEHOLDER.sub(lambda found, first=number: f"[{int(found[1]) - first}]", body)  # type: ignore[misc]
        own = spans[number : number + count]
        number += count
        original = unmask(renumbered, own)
        assert original is not None  # the text holds no other brackets: they are protected
        segment = Segment(original, " ".join(renumbered.split()), own)
        yield segment if len(segment.words) >= LEAST_WORDS and len(segment.masked) <= _LONGEST else original
        yield masked[end:after]
        start = after


def _borders(masked: str) -> Iterator[tuple[int, int]]:
    """(end of a sentence, beginning of the next)."""
    for found in _SENTENCE_END.finditer(masked):
        before = _WORD.findall(masked[max(0, found.start() - 12) : found.start()])
        if masked[found.start()] == "." and before and before[-1].lower() in _ABBREVIATIONS:
            continue
        yield found.start(1), found.end(1)

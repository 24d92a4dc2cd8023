"""Running heads and feet of a PDF: the lines at the edges of its pages that say the same on page after page.

Left in, they would stand in the middle of the paragraphs that go on over the page.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from llmtune.corpus.readers.pdf_lines import Line

_ROWS = 2  # at either edge
_FEWEST = 3  # pages
_REPEATED = 0.5  # of the pages with a row in a place, whose row says what another's says
_PLACE = 4.0  # points within which a place is one
_NUMBERS = re.compile(r"\d+|(?<!\w)[ivxlc]+(?!\w)", re.IGNORECASE)


def without_heads(pages: Sequence[list[Line]]) -> list[list[Line]]:
    """The lines of the pages without running heads, feet and page numbers. A place is one of these when most pages that
    have their outermost lines there say what another page says, numbers aside; heads that name the section go with
    those that name the chapter."""
    edges = [_edges(lines) for lines in pages]
    said: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for rows in edges:
        for place, row in rows.items():
            said[place][_said(row)] += 1
    heads = {
        place
        for place, texts in said.items()
        if texts.total() >= _FEWEST and sum(n for n in texts.values() if n > 1) >= _REPEATED * texts.total()
    }
    gone = {id(line) for rows in edges for place, row in rows.items() if place in heads for line in row}
    return [[line for line in lines if id(line) not in gone] for lines in pages]


def _edges(lines: list[Line]) -> dict[tuple[str, int], list[Line]]:
    """The outermost rows of a page by edge and height."""
    found: dict[tuple[str, int], list[Line]] = {}
    for edge, order in (("top", -1), ("bottom", 1)):
        rows: list[list[Line]] = []
        for line in sorted(lines, key=lambda line: order * line.middle):
            if rows and rows[-1][0].beside(line):
                rows[-1].append(line)
            elif len(rows) < _ROWS:
                rows.append([line])
            else:
                break
        for row in rows:
            found[edge, round(row[0].middle / _PLACE)] = row
    return found


def _said(row: list[Line]) -> str:
    return _NUMBERS.sub("0", " ".join(line.text for line in sorted(row, key=lambda line: line.left)))

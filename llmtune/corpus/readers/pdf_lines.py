"""The characters of a PDF page → its lines in reading order.

A PDF places glyphs; which make a word is PDFium's judgement, taken over. Its order, the one they are drawn in, is the
reading order with most producers; where it hops over a gutter between two filled columns row by row, the columns are
read one after the other.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from statistics import median
from typing import Any

from pypdfium2 import raw

_END_HYPHEN = "\ufffe"  # what PDFium puts for a hyphen that ends a line, or \x02
_WORD = re.compile(r"[^\s\x00-\x1f]+")
_AS_LETTERS = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_AS_LETTERS |= {0xAD: "-", 0x2010: "-"}  # a soft hyphen that is drawn is a hyphen
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_RAISED_SIZE = 0.85  # of the word's, at most
_SAME_PITCH = 0.02  # em
_NARROW = frozenset("fijlrtI.,:;'|!()[]/-")  # less wide than others in fonts that are not of fixed pitch
_CELL_GAP = 0.8  # em between words, from which on they may stand in different columns
_WIDE_GAP = 2.0  # em between the cells of a row
_MARGIN = 0.15  # of the text's width at either side, where no gutter is looked for
_STRIP = 0.5  # em: the narrowest gutter
_MOST_CROSSING = 0.25  # of the pieces may cross it: titles, figures, running heads
_WIDEST = 20_000  # points of a page that is looked at for columns; PDF allows 14,400, and files anything
_MOST_SPACES = 200  # between two words in a font of fixed pitch
_FEW_CROSSING = 0.05  # of the pieces: strips that so few cross are as good as each other
_LEAST_ROWS = 4  # lines on either side of a gutter
_FILLED = 0.6  # of the way from one column to the next, that the median line takes: cells are mostly shorter
_ALIKE = 0.5  # times the width of the other column's lines


@dataclass(slots=True)
class Line:
    """A line, or a piece of one, down to a word: its box in points (up is positive) and font size. pitch: the width of
    each of its characters in a font of fixed pitch, else 0. last: PDFium sees a line end after it."""

    text: str
    left: float
    right: float
    bottom: float
    top: float
    size: float
    pitch: float = 0
    last: bool = False

    @property
    def middle(self) -> float:
        return (self.bottom + self.top) / 2

    @property
    def fixed(self) -> bool | None:
        """Whether it is set in a font of fixed pitch; None where its characters would be alike in any (`2023`)."""
        if not self.pitch:
            return False
        narrow = len(_NARROW.intersection(self.text))
        return True if narrow and len(set(self.text) - {" "}) > narrow else None

    @property
    def broken(self) -> bool:
        """Whether it ends in a hyphen that hangs on a word."""
        return self.text.endswith("-") and not self.text.endswith((" -", "--")) and len(self.text) > 1

    def beside(self, other: Line) -> bool:
        """Whether both stand in one row."""
        shared = min(self.top, other.top) - max(self.bottom, other.bottom)
        return shared > 0.4 * min(self.top - self.bottom, other.top - other.bottom)

    def gap(self, other: Line) -> float:
        """Horizontal distance, in points; negative where they overlap."""
        return max(other.left - self.right, self.left - other.right)


def lines_of(textpage: Any) -> list[Line]:
    """The lines of a page (a PdfTextPage) in reading order."""
    return _rows(_in_columns(_pieces(_words(textpage))))


def text_of(textpage: Any) -> str:
    """All characters of a page as PDFium orders them, one a character index, spaces and line ends put in by it too."""
    count = textpage.count_chars()
    text: str = textpage.get_text_range() if count else ""
    if len(text) != count:  # characters that have no Unicode value are left out of it
        text = "".join(chr(raw.FPDFText_GetUnicode(textpage.raw, index)) for index in range(count))
    return text.replace(_END_HYPHEN, "\x02")


def _words(textpage: Any) -> list[Line]:
    """Runs of characters between spaces, turned upright with most of the page's text."""
    page, matrix = textpage.raw, raw.FS_MATRIX()
    text = text_of(textpage)
    words: list[tuple[Line, int]] = []
    for found in _WORD.finditer(text):
        first, end = found.span()
        raw.FPDFText_GetMatrix(page, first, ctypes.byref(matrix))
        size = raw.FPDFText_GetFontSize(page, first) * math.hypot(matrix.c, matrix.d)
        turn = round(math.degrees(math.atan2(matrix.b, matrix.a)) / 90) % 4
        one, other = _box(page, first), _box(page, end - 1)
        word = _with_raised(page, found).translate(_AS_LETTERS)
        after = text[end : end + 1]
        line = Line(
            word + "-" if after == "\x02" else word,
            min(one[0], other[0]),
            max(one[1], other[1]),
            min(one[2], other[2]),
            max(one[3], other[3]),
            size,
            _pitch(page, found, size, along=turn % 2),
            last=after in ("\r", "\n", "\x02", ""),
        )
        words.append((line, turn))
    return _upright(words)


def _box(page: Any, index: int) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of a character as wide as its font steps and as high as its font may go."""
    box = raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(page, index, ctypes.byref(box))
    return box.left, box.right, box.bottom, box.top


def _with_raised(page: Any, word: re.Match[str]) -> str:
    """A word with a caret before the raised digits at its end, a footnote's mark or an exponent: `2^10`."""
    text = word[0]
    first, last = word.start(), word.end() - 1
    if not text[-1].isdecimal() or not _is_raised(page, first, last):
        return text
    start = last
    while start > first + 1 and _is_raised(page, first, start - 1):
        start -= 1
    return f"{text[: start - first]}^{text[start - first :]}"


def _is_raised(page: Any, first: int, index: int) -> bool:
    """Whether a character is smaller than the first of its word and stands higher."""
    size = raw.FPDFText_GetFontSize(page, first)
    if raw.FPDFText_GetFontSize(page, index) > _RAISED_SIZE * size:
        return False
    return _box(page, index)[2] > _box(page, first)[2]


def _pitch(page: Any, word: re.Match[str], size: float, along: int) -> float:
    """The width of each character of a word, where all are alike; 0 where they differ, and for full-width scripts.
    along: 0 where lines run to the side, 1 where they run up or down."""
    if word[0][0] > "\u2e7f":
        return 0
    width = 0.0
    for index in range(*word.span()):
        box = _box(page, index)
        step = box[2 * along + 1] - box[2 * along]
        if width and abs(step - width) > _SAME_PITCH * size:
            return 0
        width = step
    return width


def _upright(words: list[tuple[Line, int]]) -> list[Line]:
    """Words as they stand when the page is turned so that most of them are upright; others keep a line of their own."""
    if not words:
        return []
    turns = Counter(turn for _, turn in words)
    main = turns.most_common(1)[0][0]
    for word, turn in words:
        left, right, bottom, top = word.left, word.right, word.bottom, word.top
        if main == 1:
            word.left, word.right, word.bottom, word.top = bottom, top, -right, -left
        elif main == 2:
            word.left, word.right, word.bottom, word.top = -right, -left, -top, -bottom
        elif main == 3:
            word.left, word.right, word.bottom, word.top = -top, -bottom, left, right
        if turn != main:
            word.last = True
    return [word for word, _ in words]


def _pieces(words: Iterable[Line]) -> list[Line]:
    """Words that follow one another on a line, as one: no further apart than words are, on this side of a line end."""
    pieces: list[Line] = []
    for word in words:
        piece = pieces[-1] if pieces else None
        if piece is None or piece.last or not -word.size < piece.gap(word) < _CELL_GAP * word.size:
            pieces.append(word)
        elif piece.beside(word):
            _append(piece, word)
        else:
            pieces.append(word)
    return pieces


def _rows(pieces: Iterable[Line]) -> list[Line]:
    """Pieces that stand in one row and follow one another, as one line, from left to right."""
    rows: list[list[Line]] = []
    for piece in pieces:
        if rows and rows[-1][0].beside(piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    lines: list[Line] = []
    for row in rows:
        if not any(_RIGHT_TO_LEFT.search(piece.text) for piece in row):
            row.sort(key=lambda piece: piece.left)
        for piece in row[1:]:
            _append(row[0], piece)
        lines.append(row[0])
    return lines


def _append(line: Line, piece: Line) -> None:
    one_pitch = line.pitch > 0 < piece.pitch and abs(line.pitch - piece.pitch) < _SAME_PITCH * piece.size
    gap = line.gap(piece)
    spaces = max(1, round(min(_MOST_SPACES, gap / piece.pitch))) if one_pitch else 1 + (gap > _WIDE_GAP * piece.size)
    line.pitch = line.pitch if one_pitch else 0
    line.size = piece.size if len(piece.text) > len(line.text) else line.size
    line.text += " " * spaces + piece.text
    line.left, line.right = min(line.left, piece.left), max(line.right, piece.right)
    line.bottom, line.top = min(line.bottom, piece.bottom), max(line.top, piece.top)
    line.last = piece.last


def _in_columns(pieces: list[Line]) -> list[Line]:
    """The pieces of a page in reading order: as they are, or column after column between the lines that cross both."""
    gutter = _gutter(pieces)
    if gutter is None:
        return pieces
    stream = {id(piece): index for index, piece in enumerate(pieces)}
    ordered: list[Line] = []
    band: list[Line] = []

    def end_band() -> None:
        left = [piece for piece in band if piece.right <= gutter]
        right = [piece for piece in band if piece.left >= gutter]
        if _are_columns(left, right):
            ordered.extend(left + _in_columns(right))
        else:
            ordered.extend(sorted(band, key=lambda piece: stream[id(piece)]))
        band.clear()

    for piece in sorted(pieces, key=lambda piece: -piece.middle):
        if piece.left < gutter < piece.right:
            end_band()
            ordered.append(piece)
        else:
            band.append(piece)
    end_band()
    return ordered


def _gutter(pieces: list[Line]) -> float | None:
    """Where the stream goes from right to left and back over a white strip, time and again; None if nowhere."""
    if len(pieces) < 2 * _LEAST_ROWS:
        return None
    start, end = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    if not end - start <= _WIDEST:  # nor infinite, nor not a number
        return None
    crossed = [0] * (int(end - start) + 2)  # per point: how many pieces lie over it, first as differences
    for piece in pieces:
        crossed[int(piece.left - start)] += 1
        crossed[int(piece.right - start) + 1] -= 1
    crossed = list(accumulate(crossed))
    margin = int(_MARGIN * len(crossed))
    inner = crossed[margin : len(crossed) - margin]
    fewest = min(inner, default=len(pieces))
    if fewest > _MOST_CROSSING * len(pieces):
        return None
    strips: list[tuple[int, int]] = []  # (where it begins, width)
    at = margin
    for is_clear, run in groupby(inner, lambda crosses: crosses <= max(fewest, _FEW_CROSSING * len(pieces))):
        width = len(list(run))
        if is_clear:
            strips.append((at, width))
        at += width
    widest = max(width for _, width in strips)
    at, width = next(strip for strip in strips if strip[1] >= 0.8 * widest)  # the first of three columns, then the rest
    gutter = start + at + width / 2
    sides = [piece.left > gutter for piece in pieces if not piece.left < gutter < piece.right]
    back = sum(one and not other for one, other in pairwise(sides))
    least = max(2, 0.25 * min(sum(sides), len(sides) - sum(sides)))
    return gutter if width >= _STRIP * median(piece.size for piece in pieces) and back >= least else None


def _are_columns(left: list[Line], right: list[Line]) -> bool:
    """Whether both are running text and not the cells of a table: enough lines, that fill the left one up to the right
    one, and are about as wide in both."""
    if min(len(left), len(right)) < _LEAST_ROWS:
        return False
    step = min(piece.left for piece in right) - min(piece.left for piece in left)
    widths = [median(piece.right - piece.left for piece in column) for column in (left, right)]
    return widths[0] >= _FILLED * step and min(widths) >= _ALIKE * max(widths)

"""PDF: files made by reportlab, whose words, places and fonts are known; damage done to them on purpose."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.pdf_lines import Line, _gutter, _rows
from llmtune.corpus.readers.pdf_paragraphs import markdown_of
from llmtune.corpus.readers.reader import RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from tests.corpus.conftest import WORDS


def read(path: Path) -> list[RawDocument | Rejected]:
    return list(reader_of("pdf").read(path, Source.model_validate({"path": path, "format": "pdf"})))


def text_of(path: Path) -> str:
    [document] = read(path)
    assert isinstance(document, RawDocument)
    assert document.text is not None
    return document.text


def paragraphs(count: int, words: int = 40) -> list[str]:
    random_ = random.Random(count)
    return [" ".join(random_.choices(WORDS, k=words)).capitalize() + "." for _ in range(count)]


def wrapped(text: str, width: float, font: str = "Times-Roman", size: float = 10) -> list[str]:
    """The lines of a paragraph as a typesetter breaks them."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if stringWidth(longer, font, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def column(texts: Iterable[str], width: float) -> list[str]:
    """The lines of paragraphs, one empty line between two."""
    return [line for text in texts for line in [*wrapped(text, width), ""]]


class Page:
    """Draws on a page and writes the file when it is asked for."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.canvas = Canvas(str(path), pagesize=A4, **settings)

    def lines(self, lines: Iterable[str], x: float, y: float, font: str = "Times-Roman", size: float = 10) -> float:
        """Lines downwards from (x, y), 1.2 em apart; → where the next one would stand."""
        self.canvas.setFont(font, size)
        for line in lines:
            if line:
                self.canvas.drawString(x, y, line)
            y -= 1.2 * size
        return y

    def save(self) -> Path:
        self.canvas.save()
        return self.path


def test_paragraphs_headings_lists_and_code(tmp_path: Path) -> None:
    first, second, third = paragraphs(3)
    page = Page(tmp_path / "a.pdf")
    y = page.lines(["Vacuuming"], 60, 780, "Helvetica-Bold", 20)
    y = page.lines(column([first, second], 300), 60, y - 10)
    y = page.lines(["Steps"], 60, y - 8, "Helvetica-Bold", 14)
    item, *more = wrapped(f"\u2022 {first}", 290)
    y = page.lines([item, *(f"   {line}" for line in more), "\u2022 Copy the files."], 60, y - 8)
    y = page.lines(["def total(items):", "    return sum(items)", "", "print(total([1]))"], 80, y - 12, "Courier", 9)
    page.lines(wrapped(third, 300), 60, y - 12)
    assert text_of(page.save()).split("\n\n") == [
        "# Vacuuming",
        first,
        second,
        "## Steps",
        f"- {first}\n- Copy the files.",
        "```\ndef total(items):\n    return sum(items)",
        "print(total([1]))\n```",
        third,
    ]


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("number", [2, 3])
def test_columns_are_read_one_after_the_other(tmp_path: Path, order: str, number: int) -> None:
    """Drawn column by column, as typesetters do, or row by row, as some converters do."""
    width = 470 / number - 20
    texts = [paragraphs(4, 50 + index) for index in range(number)]
    columns = [column(part, width) for part in texts]
    page = Page(tmp_path / "a.pdf")
    y = page.lines(["A title that stands over all of the columns"], 60, 790, "Times-Bold", 16) - 10
    lefts = [60 + index * 470 / number for index in range(number)]
    if order == "columns":
        for lines, left in zip(columns, lefts, strict=True):
            page.lines(lines, left, y)
    else:
        for row in range(max(map(len, columns))):
            for lines, left in zip(columns, lefts, strict=True):
                page.lines(lines[row : row + 1], left, y - 12 * row)
    title, *found = text_of(page.save()).split("\n\n")
    assert title == "# A title that stands over all of the columns"
    assert " ".join(" ".join(found).split()) == " ".join(text for part in texts for text in part)


def test_a_table_is_read_by_rows(tmp_path: Path) -> None:
    page = Page(tmp_path / "a.pdf")
    rows = [(f"key{number}", f"value {number}") for number in range(9)]
    for number, (key, value) in enumerate(rows):
        page.lines([key], 60, 700 - 14 * number)
        page.lines([value], 320, 700 - 14 * number)
    assert text_of(page.save()).split() == " ".join(f"{key} {value}" for key, value in rows).split()


def test_a_paragraph_goes_on_over_the_page_without_its_running_heads(tmp_path: Path) -> None:
    text = " ".join(paragraphs(1, 900)[0].split())
    lines = wrapped(text, 450)
    page = Page(tmp_path / "a.pdf")
    for number, start in enumerate(range(0, len(lines), 6), 1):
        page.lines([f"Chapter {number // 3 + 1}. On locks"], 60, 810)
        page.lines(lines[start : start + 6], 60, 770)
        page.lines([str(number)], 300, 40)
        page.canvas.showPage()
    assert number > 4
    assert text_of(page.save()) == text


def test_what_stands_at_the_edge_of_pages_and_does_not_repeat_stays(tmp_path: Path) -> None:
    page = Page(tmp_path / "a.pdf")
    texts = paragraphs(6)
    for text in texts:
        page.lines(wrapped(text, 450), 60, 770)
        page.canvas.showPage()
    assert text_of(page.save()) == "\n\n".join(texts)


def test_a_hyphen_at_the_end_of_a_line_is_left_to_the_clean_up(tmp_path: Path) -> None:
    page = Page(tmp_path / "a.pdf")
    page.lines(
        ["The autovacuum daemon does not run in this con-", "figuration of the server, which is a test."], 60, 700
    )
    page.lines(["The server said \ufb01ne, in 1990 and 1991, to a"], 60, 640)
    assert "in this con-\nfiguration of the server" in text_of(page.save())


def test_raised_digits_are_set_apart(tmp_path: Path) -> None:
    page = Page(tmp_path / "a.pdf")
    page.lines(["A block has 2"], 60, 700)
    left = 60 + stringWidth("A block has 2", "Times-Roman", 10)
    page.canvas.setFont("Times-Roman", 7)
    page.canvas.drawString(left, 704, "13")
    page.lines(["bytes of memory."], left + 10, 700)
    assert text_of(page.save()) == "A block has 2^13 bytes of memory."


def test_a_page_that_lies_on_its_side(tmp_path: Path) -> None:
    texts = paragraphs(3)
    page = Page(tmp_path / "a.pdf")
    page.canvas.rotate(90)
    page.lines(column(texts, 400), 60, -100)
    assert text_of(page.save()) == "\n\n".join(texts)


@pytest.mark.parametrize(
    ("title", "above"),
    [("The manual of locks", True), ("Microsoft Word - x.doc", False), ("untitled", False), ("C:\\a.tex", False)],
)
def test_title(tmp_path: Path, title: str, above: bool) -> None:
    [text] = paragraphs(1)
    page = Page(tmp_path / "a.pdf")
    page.canvas.setTitle(title)
    page.lines(wrapped(text, 400), 60, 700)
    assert text_of(page.save()) == (f"# {title}\n\n{text}" if above else text)


def scan(page: Page) -> None:
    picture = Image.effect_noise((30, 40), 60)
    page.canvas.drawImage(ImageReader(picture), 0, 0, *A4)
    page.lines(["7"], 300, 20)
    page.canvas.showPage()


def test_scanned_pages_are_named(tmp_path: Path) -> None:
    [text] = paragraphs(1)
    page = Page(tmp_path / "a.pdf")
    scan(page)
    page.lines(wrapped(text, 400), 60, 700)
    page.canvas.showPage()
    page.canvas.showPage()  # nothing on it, so nothing is lost
    scan(page)
    first, last, document = read(page.save())
    assert isinstance(first, Rejected)
    assert isinstance(last, Rejected)
    assert [(item.part, item.reason) for item in (first, last)] == [
        ("#page=1", "scanned page"),
        ("#page=4", "scanned page"),
    ]
    assert document == RawDocument(text=text)


def test_a_file_of_scanned_pages_only(tmp_path: Path) -> None:
    page = Page(tmp_path / "a.pdf")
    for _ in range(3):
        scan(page)
    with pytest.raises(Unreadable, match=r"scanned page: .*all 3 pages"):
        read(page.save())


def whole(path: Path) -> bytes:
    page = Page(path)
    for text in paragraphs(5):
        page.lines(wrapped(text, 400), 60, 700)
        page.canvas.showPage()
    return page.save().read_bytes()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "empty file"),
        (lambda data: data[: len(data) // 2], "damaged file: truncated"),
        (lambda data: data.rstrip()[:-5], "damaged file: truncated"),
        (lambda data: b"%PDF-1.7\n" + random.Random(1).randbytes(3000) + b"%%EOF", "damaged file: not readable as PDF"),
        (lambda data: b"<html>not found</html>", "damaged file: not a PDF"),
    ],
)
def test_damaged_files(tmp_path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(spoil(whole(path)))
    with pytest.raises(Unreadable, match=message):
        read(path)


def test_a_linearized_file_that_is_cut_at_the_end_of_its_first_part(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    data = whole(path).replace(b"\n", b"\n1 0 obj << /Linearized 1 /L 999999 >> endobj\n", 1)
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="truncated"):
        read(path)


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_is_named_or_survived(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.pdf"
    data = bytearray(whole(path))
    random_ = random.Random(seed)
    for _ in range(random_.choice([1, 10, 100])):
        data[random_.randrange(8, len(data) - 6)] = random_.randrange(256)
    path.write_bytes(data)
    reasons: set[str] = set()
    try:
        reasons.update(found.reason for found in read(path) if isinstance(found, Rejected))
    except Unreadable as error:
        reasons.add(error.reason)
    assert reasons <= {"damaged file"}


def test_passwords(tmp_path: Path) -> None:
    locked = Page(tmp_path / "a.pdf", encrypt="secret")
    locked.lines(["Nobody reads this."], 60, 700)
    with pytest.raises(Unreadable, match="password-protected file: a password is needed"):
        read(locked.save())


def test_a_page_that_unpacks_to_millions_of_characters(tmp_path: Path) -> None:
    stream = zlib.compress(b"BT /F1 9 Tf 50 700 Td (many words that are said again) Tj ET" * 8_000)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body = b"".join(b"%d 0 obj\n%b\nendobj\n" % (number, item) for number, item in enumerate(objects, 1))
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.4\n" + body + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n0\n%%EOF\n")
    assert path.stat().st_size < 20_000
    with pytest.raises(Unreadable, match="too large"):
        read(path)


def test_places_far_beyond_any_page(tmp_path: Path) -> None:
    """A page of ten words, one of them a thousand million points to the right, must not cost memory for each point."""
    page = Page(tmp_path / "a.pdf")
    y = page.lines([f"word{number} and more" for number in range(10)], 60, 780, "Courier")
    page.canvas.drawString(1e9, y, "distant")
    page.canvas.drawString(60, y, "near")
    assert "word9 and more" in text_of(page.save())
    near, far = (Line(text, left, left + 20, 0, 10, 10, pitch=5) for text, left in (("near", 0), ("far", 1e9)))
    assert len(markdown_of([[near, far]])) < 1000
    assert len(_rows([near, far])[0].text) == len("near") + 200 + len("far")
    assert _gutter([Line("a", left, left + 1, 0, 10, 10) for left in (*range(10), 1e9)]) is None


def test_code_that_is_indented_beyond_any_page() -> None:
    lines = [
        Line(text, left, left + 20, y, y + 10, 10, pitch=5) for text, left, y in (("if a:", 0, 12), ("il", 1e9, 0))
    ]
    assert markdown_of([lines]) == f"```\nif a:\n{' ' * 200}il\n```"


def test_a_line_of_leaders_takes_no_time() -> None:
    line = Line(". " * 20_000 + "and no number", 0, 500, 0, 10, 10)
    begin = time.process_time()
    assert markdown_of([[line, Line("more", 0, 500, -12, -2, 10)]]).startswith(". . .")
    assert time.process_time() - begin < 1

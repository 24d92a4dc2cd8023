"""PDF: the text layer as Markdown: columns in reading order, paragraphs, headings by their size, code.

Read by PDFium (pypdfium2). `pdf_lines.py` puts the lines in order, `pdf_heads.py` takes running heads out,
`pdf_paragraphs.py` makes paragraphs of them. Scripts, forms and attachments in a PDF are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtune.corpus.readers.reader import (
    DAMAGED,
    EMPTY,
    ENCODING,
    PROTECTED,
    SCANNED,
    TOO_LARGE,
    RawDocument,
    Rejected,
    Unreadable,
)
from llmtune.corpus.readers.title import sane_title, with_title
from llmtune.corpus.settings import Source
from llmtune.extras import need

_END_MARK = 2048  # bytes before the end in which %%EOF stands; Acrobat looks at 1024
_LINEARIZED = re.compile(rb"/Linearized.{0,200}?/L\s+(\d+)", re.DOTALL)
_MOST_OBJECTS = 300_000  # on a page; maps have a hundred thousand lines. Looked at before its text is put together
_MOST_PAGE_CHARACTERS = 200_000  # a page of 8 pt type has ten thousand
_MOST_CHARACTERS = 50_000_000  # in all
_PICTURE_SHARE = 0.5  # of a page, from which on a picture with next to no text is a scanned page
_FEW_LETTERS = 20
_UNKNOWN_SHARE = 0.3
_UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff]")


class PdfReader:
    """A file is a document. Pages without a text layer are rejected one by one; a file with no other pages, whole."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        pdfium = need("pypdfium2", "reading PDF")
        data = path.read_bytes()
        _check_whole(data)
        try:
            pdf = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            if error.err_code == pdfium.raw.FPDF_ERR_PASSWORD:
                raise Unreadable(PROTECTED, "a password is needed to open it") from error
            raise Unreadable(DAMAGED, f"not readable as PDF: {error}") from error
        with pdf:
            yield from _documents(pdf)


def _check_whole(data: bytes) -> None:
    """Refuse what PDFium would repair without a word: it would give the pages that are left of a truncated file."""
    if not data:
        raise Unreadable(EMPTY, "0 bytes")
    if b"%PDF-" not in data[:1024]:
        raise Unreadable(DAMAGED, "not a PDF: it does not begin with %PDF")
    length = _LINEARIZED.search(data[:1024])
    if b"%%EOF" not in data[-_END_MARK:] or (length and int(length[1]) > len(data)):
        raise Unreadable(DAMAGED, f"truncated: its end is missing after {len(data)} bytes")


def _documents(pdf: Any) -> Iterator[RawDocument | Rejected]:
    from llmtune.corpus.readers.pdf_heads import without_heads
    from llmtune.corpus.readers.pdf_lines import Line
    from llmtune.corpus.readers.pdf_paragraphs import markdown_of

    pages: list[list[Line]] = []
    rejected: list[Rejected] = []
    characters = 0
    for number in range(len(pdf)):
        try:
            lines = _lines(pdf, number)
        except Unreadable as error:
            rejected.append(Rejected(f"#page={number + 1}", error.reason, error.detail))
            continue
        pages.append(lines)
        characters += sum(len(line.text) for line in lines)
        if characters > _MOST_CHARACTERS:
            raise Unreadable(TOO_LARGE, f"more than {_MOST_CHARACTERS:,} characters in {number + 1} pages")
    text = markdown_of(without_heads(pages))
    if not text and rejected:
        first = rejected[0]
        raise Unreadable(first.reason, f"{first.detail}, like all {len(pdf)} pages" if len(pdf) > 1 else first.detail)
    yield from rejected
    yield RawDocument(text=with_title(sane_title(pdf.get_metadata_dict().get("Title")), text))


def _lines(pdf: Any, number: int) -> list[Any]:
    """The lines of a page in reading order. Raises Unreadable for a page that has no text to be read."""
    import pypdfium2 as pdfium

    from llmtune.corpus.readers.pdf_lines import lines_of

    try:
        page = pdf[number]
        objects = pdfium.raw.FPDFPage_CountObjects(page)
        if objects > _MOST_OBJECTS:
            page.close()
            raise Unreadable(TOO_LARGE, f"{objects:,} objects on one page")
        textpage = page.get_textpage()
    except pdfium.PdfiumError as error:
        raise Unreadable(DAMAGED, f"not readable: {error}") from error
    try:
        if textpage.count_chars() > _MOST_PAGE_CHARACTERS:
            raise Unreadable(TOO_LARGE, f"{textpage.count_chars():,} characters on one page")
        lines = lines_of(textpage)
        text = "".join(line.text for line in lines)
        if len(_UNKNOWN.findall(text)) > _UNKNOWN_SHARE * len(text):
            raise Unreadable(ENCODING, "its fonts do not say which characters they show")
        if sum(map(str.isalnum, text)) < _FEW_LETTERS and _picture_share(page) >= _PICTURE_SHARE:
            raise Unreadable(SCANNED, "a picture without a text layer; recognise its text (OCR) beforehand")
        return lines
    finally:
        textpage.close()
        page.close()


def _picture_share(page: Any) -> float:
    """How much of the page its pictures cover."""
    from pypdfium2 import raw

    width, height = page.get_size()
    covered = 0.0
    for picture in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]):
        left, bottom, right, top = picture.get_bounds()
        covered += (right - left) * (top - bottom)
    return covered / (width * height) if width and height else 0.0

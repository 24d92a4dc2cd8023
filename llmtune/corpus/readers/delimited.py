"""CSV and its like: a row is a document, by the columns that the first row names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.readers.decode import marked_encoding, open_text
from llmtune.corpus.readers.reader import DAMAGED, ENCODING, MALFORMED, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.records import columns_read, document_of
from llmtune.corpus.settings import AUTO_ENCODING, Source

_DELIMITERS = ",;\t|"
_LARGEST_CELL = 64 << 20  # characters; a quote that nobody closed must not take in a whole file
_END = "\U0010ffff"  # stands for a line behind the last one: a quote left open takes it in


class DelimitedReader:
    """Rows in the file's order, numbered from 1 without the one that names the columns. Cells may be quoted and hold
    line breaks (RFC 4180). A row with more or fewer cells than there are columns is rejected and the next one read."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        csv.field_size_limit(_LARGEST_CELL)
        with open_text(path, source.encoding) as file:
            try:
                yield from _documents(file, source)
            except csv.Error as error:
                raise Unreadable(DAMAGED, f"not readable as CSV: {error}") from error
            except UnicodeDecodeError as error:
                byte = f"byte 0x{error.object[error.start]:02x} ({error.reason})"
                raise Unreadable(ENCODING, f"not {error.encoding}: {byte}") from error


def _documents(file: Iterator[str], source: Source) -> Iterator[RawDocument | Rejected]:
    skipped, first = next(((number, line) for number, line in enumerate(file) if line.strip()), (0, ""))
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield first
        yield from file
        ended = True
        yield _END

    rows = csv.reader(lines(), delimiter=source.delimiter or delimiter_of(first))
    names = [name.strip() or f"#{number}" for number, name in enumerate(next(rows, []), 1)]
    if ended and names[-1].endswith(_END):
        raise Unreadable(DAMAGED, "a quote in its first row is not closed")
    known = columns_read(source, names)
    if not known:
        raise Unreadable(DAMAGED, f"none of its columns is known: {', '.join(names)} (say which with `columns`)")
    if twice := [name for name in known if known.count(name) > 1]:
        raise Unreadable(DAMAGED, f"its first row names the column '{twice[0]}' {known.count(twice[0])} times")
    end = rows.line_num
    for number, row in enumerate(rows, 1):
        begin, end = end, rows.line_num
        if ended and row == [_END]:
            return
        if ended and row and row[-1].endswith(_END):
            taken = f"the record from line {skipped + begin + 1} on takes in all {end - begin - 1:,} that are left"
            yield Rejected(f"#{number}", MALFORMED, f"a quote is not closed: {taken}")
            return
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            detail = f"{len(row)} cells, where the first row names {len(names)} columns"
            if end - begin > 1:
                detail += f"; it takes in {end - begin:,} lines: a quote may not be closed"
            yield Rejected(f"#{number}", MALFORMED, detail)
            continue
        # An empty cell holds nothing, as null in JSON; an empty text is an empty document.
        record = {name: cell for name, cell in zip(names, row, strict=True) if cell or name == source.columns.text}
        yield document_of(record, source, f"#{number}")


def delimiter_of(first_row: str) -> str:
    """The delimiter that cuts the names of the columns into the most cells; names hold no prose, so that this is
    surer than to look at the rows, as csv.Sniffer does."""
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([first_row], delimiter=delimiter), [])))


def first_rows(path: Path, source: Source, size: int) -> tuple[list[RawDocument | Rejected], int]:
    """The rows in about the first `size` bytes of a file, and how many bytes they took. For estimates."""
    found: list[RawDocument | Rejected] = []
    named = "utf-8" if source.encoding == AUTO_ENCODING else source.encoding
    with path.open("rb") as file:
        data = file.read(size)
    text = data.decode(marked_encoding(data) or named, "replace")
    csv.field_size_limit(_LARGEST_CELL)
    try:
        found.extend(_documents(io.StringIO(text, newline=""), source))
    except csv.Error:
        pass  # counts as far as it could be read
    return found, len(data)

"""CSV that spreadsheets open: UTF-8 with its mark, and no cell that they would take for a formula, as long as they part
cells at commas."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmtune.errors import LlmtuneError
from llmtune.files import write_bytes
from llmtune.words import visible

# A formula begins with one of these, in full width in East Asian editions; so does a text that already stands behind
# apostrophes, or reading could not tell which were ours.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")
_MOST = 1 << 30  # characters of a cell; the module's own limit is 131,072


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows of cells below a header, whole or not at all. Text that a spreadsheet would calculate gets an
    apostrophe before it, which `read_table` takes off again."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row])
    write_bytes(path, text.getvalue().encode("utf-8-sig"))


def read_table(path: Path, data: bytes) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of each row that is not empty, of UTF-8; cells missing at its end are empty. Columns are
    in lower case; what parts them is a comma, semicolon or tab, as the spreadsheet's country has it. Raises
    LlmtuneError for what is no such table."""
    csv.field_size_limit(_MOST)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LlmtuneError(
            f"is not UTF-8: byte {error.start + 1} is {data[error.start]:#04x}",
            where=str(path),
            fix="save it as 'CSV UTF-8' (Excel), or with the character set Unicode (UTF-8) (LibreOffice)",
        ) from error
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        if twice := [name for name, times in Counter(columns).items() if name and times > 1]:
            raise LlmtuneError(
                f"has several columns '{visible(twice[0])}'",
                where=f"{path}, line 1",
                fix="keep one of them, or give them different names",
            )
        while True:
            line = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return rows
            if not any(cells):
                continue
            if any(cells[len(columns) :]):
                raise LlmtuneError(
                    f"has {len(cells)} cells, the header {len(columns)}",
                    where=f"{path}, line {line}",
                    fix="put quotes around cells that hold the separator, or save it from a spreadsheet",
                )
            cells += [""] * (len(columns) - len(cells))  # some programs leave out separators at the end of a row
            rows.append((line, {name: _read(cell) for name, cell in zip(columns, cells, strict=False)}))
    except csv.Error as error:
        raise LlmtuneError(f"is no CSV: {error}", where=f"{path}, line {reader.line_num}") from error


def _read(cell: str) -> str:
    return cell[1:] if _GUARDED.match(cell) else cell

"""A file of labels, read as what its content is: CSV, JSONL, a JSON array, Label Studio's JSON or CSV export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtune.annotate.cells import read_table
from llmtune.annotate.label_studio import studio_rows
from llmtune.annotate.rows import Row
from llmtune.errors import LlmtuneError
from llmtune.words import printable, visible


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, labelled or not. Raises LlmtuneError that names the file and the line of what is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LlmtuneError(
            f"can't be read: {error.strerror}", where=str(path), fix="name a file of labels: .csv, .jsonl or .json"
        ) from error
    data = _utf8(path, data)
    beginning = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if beginning == b"[":
        tasks = _json(data, str(path))
        if any(isinstance(task, dict) and "data" in task for task in tasks):
            rows = list(studio_rows(str(path), tasks))
        else:
            rows = [_row(path, f"record {number}", record) for number, record in enumerate(tasks, 1)]
    elif beginning == b"{":
        rows = [_row(path, f"line {line}", record) for line, record in _lines(path, data)]
    else:
        rows = [_row(path, f"line {line}", record) for line, record in read_table(path, data)]
    if not rows:
        raise LlmtuneError("holds no rows", where=str(path), fix="name a file with an `id` and a `label` for each row")
    return rows


def _utf8(path: Path, data: bytes) -> bytes:
    """The data in UTF-8, if it begins with the mark of UTF-16 (Excel's "Unicode text", PowerShell's `>`); else as it
    is."""
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return data
    try:
        return data.decode("utf-16").encode()
    except UnicodeDecodeError as error:
        raise LlmtuneError(
            f"is not UTF-16: {error.reason} at byte {error.start + 1}", where=str(path), fix="save it in UTF-8"
        ) from error


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, _json(line, f"{path}, line {number}")


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise LlmtuneError(f"is not UTF-8: {error.reason} at byte {error.start + 1}", where=where) from error
    except (ValueError, RecursionError) as error:
        raise LlmtuneError(f"is no JSON: {error}", where=where) from error


def _row(path: Path, where: str, record: Any) -> Row:
    """A row of named cells. Label Studio's CSV and JSON-MIN call our id `document`, and theirs `id`."""
    columns = list(record) if isinstance(record, dict) else []
    id_column = "document" if "document" in columns else "id"
    if id_column not in columns or "label" not in columns:
        raise LlmtuneError(
            f"has no column '{'id' if id_column not in columns else 'label'}'; "
            f"it has: {visible(', '.join(columns)) or 'none'}",
            where=f"{path}, {where}",
            fix="name the columns `id` and `label`",
        )
    id = _text(record[id_column])
    if not id:
        raise LlmtuneError("has no id", where=f"{path}, {where}", fix="take the row out, or give it its id again")
    label = record["label"]
    if isinstance(label, dict | list):
        raise LlmtuneError(f"has several labels: {json.dumps(label)}", where=f"{path}, {where}", fix="choose one label")
    skipped = str(record.get("was_cancelled", "")).lower() == "true"  # in Label Studio
    text = record.get("text")
    return Row(
        where,
        id,
        None if text is None else printable(str(text)),
        None if skipped else (visible(_text(label)) or None),
        visible(_text(record.get("annotator"))) or None,
        _text(record.get("group")) or None,
    )


def _text(value: Any) -> str:
    return "" if value is None else printable(str(value)).strip()

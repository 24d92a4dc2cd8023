"""Results as a file of records, for people and for the other commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmtune.annotate.cells import write_table
from llmtune.errors import LlmtuneError
from llmtune.files import write_text


def refuse_existing(path: Path) -> None:
    """Raise LlmtuneError if there is something, which may be somebody's labels, or if there can be nothing."""
    if path.exists():
        raise LlmtuneError("is there already, and may hold labels", where=str(path), fix="name a new one")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise LlmtuneError(f"can't be made: {nearest} is no folder", where=str(path), fix="name one in a folder")


def refuse_records(path: Path) -> None:
    """Raise LlmtuneError if `write_records` could not write this file."""
    refuse_existing(path)
    if path.suffix not in (".jsonl", ".csv"):
        raise LlmtuneError("ends neither in .jsonl nor in .csv", where=str(path), fix="name the file so")


def write_lines(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    """Write JSONL, whole or not at all."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_records(path: Path, columns: Sequence[str], records: Sequence[Sequence[object]]) -> None:
    """Write a new `.jsonl` or `.csv` file. In a cell, a mapping becomes `spam: 0.9; ham: 0.1`."""
    refuse_records(path)
    if path.suffix == ".jsonl":
        write_lines(path, [dict(zip(columns, record, strict=True)) for record in records])
    else:
        write_table(path, columns, [[_cell(value) for value in record] for record in records])


def _cell(value: object) -> object:
    return "; ".join(f"{name}: {one}" for name, one in value.items()) if isinstance(value, Mapping) else value

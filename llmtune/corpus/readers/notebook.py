"""Jupyter notebooks (nbformat 3 and 4): Markdown cells as text, code cells and their short results in fences.

Pictures, HTML, widgets, errors and long output are left out: they are no text, or a machine's and not an author's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtune.corpus.readers.decode import decode, problem
from llmtune.corpus.readers.fence import fenced
from llmtune.corpus.readers.markdown import markdown_text
from llmtune.corpus.readers.reader import DAMAGED, RawDocument, Unreadable
from llmtune.corpus.settings import Source

_RESULT_LINES = 20
_RESULT_CHARACTERS = 1000
_ADDRESS = re.compile(r"<[^<>\n]* at 0x[0-9a-fA-F]+>|<Figure size [^<>\n]*>")  # of an object: tells nothing
_SHOWN_ELSEHOW = ("image/", "text/html", "text/latex", "application/")  # then text/plain only stands in for it


class NotebookReader:
    """A notebook is a document."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        data = path.read_bytes()
        if found := problem(data[:8192]):
            raise found
        try:
            notebook = json.loads(decode(data, "utf-8"))
            text = notebook_text(notebook)
        except (ValueError, RecursionError) as error:
            raise Unreadable(DAMAGED, f"not a notebook: {error}") from error
        yield RawDocument(text=text)


def notebook_text(notebook: Any) -> str:
    """The cells in their order, apart by empty lines. Raises ValueError when it is no notebook."""
    if not isinstance(notebook, dict):
        raise ValueError("it holds no object")
    cells = notebook.get("cells")
    if cells is None:  # nbformat 3
        sheets = notebook.get("worksheets")
        cells = [cell for sheet in sheets for cell in _list(sheet, "cells")] if isinstance(sheets, list) else None
    if not isinstance(cells, list):
        raise ValueError("it has no cells")
    language = _language(notebook)
    blocks = [block for cell in cells if isinstance(cell, dict) for block in _cell(cell, language)]
    return "\n\n".join(block for block in blocks if block.strip())


def _cell(cell: dict[str, Any], language: str) -> Iterator[str]:
    kind = cell.get("cell_type")
    text = _joined(cell.get("source", cell.get("input", ""))).strip("\n")
    if kind == "markdown":
        yield markdown_text(text)
    elif kind == "heading":  # nbformat 3
        level = cell.get("level")
        yield f"{'#' * (min(max(level, 1), 6) if isinstance(level, int) else 1)} {text}"
    elif kind == "code" and text.strip():
        yield fenced(text, language)
        for output in _list(cell, "outputs"):
            result = _result(output).strip("\n").rstrip() if isinstance(output, dict) else ""
            short = len(result) <= _RESULT_CHARACTERS and result.count("\n") < _RESULT_LINES
            if result and short and not _ADDRESS.search(result):
                yield fenced(result)


def _result(output: dict[str, Any]) -> str:
    """What a cell printed or gave as text; "" for anything else."""
    if output.get("output_type") == "stream":
        return _joined(output.get("text")) if output.get("name", output.get("stream")) != "stderr" else ""
    if output.get("output_type") not in ("execute_result", "display_data", "pyout"):
        return ""
    data = output.get("data", output)
    if not isinstance(data, dict) or any(str(key).startswith(_SHOWN_ELSEHOW) for key in data):
        return ""
    return _joined(data.get("text/plain", output.get("text")))


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for name, key in (("language_info", "name"), ("kernelspec", "language")):
        about = metadata.get(name) if isinstance(metadata, dict) else None
        if isinstance(about, dict) and isinstance(about.get(key), str) and about[key].strip():
            return str(about[key]).strip().lower().split()[0]
    return "python"


def _joined(text: Any) -> str:
    """nbformat writes text as a string or as a list of lines."""
    if isinstance(text, list):
        return "".join(str(line) for line in text)
    return text if isinstance(text, str) else ""


def _list(holder: Any, key: str) -> list[Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []

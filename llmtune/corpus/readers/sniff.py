"""The format of a file by its first bytes, for files whose name does not tell it, or tells it wrongly."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from llmtune.corpus.readers.decode import head_of, problem

_MAGIC = (  # binary formats by how their files begin; zip containers by their members, below
    (b"%PDF-", "pdf"),
    (b"PAR1", "parquet"),
)
_ZIP = b"PK\x03\x04"
_MEMBERS = (
    (b"word/document.xml", "docx"),
    (b"ppt/presentation.xml", "pptx"),
    (b"mimetypeapplication/epub+zip", "epub"),
)
_TAIL = 65_536  # of a zip file: its directory stands at the end
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*+(?:<!doctype\s+html|<html)\b", re.IGNORECASE | re.DOTALL
)
# The loops are possessive: no file can be looked at in exponentially many ways. Of `.so` only a page's name counts, for
# prose may begin with a quotation: 'so what'.
_TITLE = rb"[ \t]*(?:(?:TH|Dd)\b|so[ \t]+\S*man\d)"
_ROFF = re.compile(rb"(?:[.'](?!%b)[^\n]*\n|[ \t\r]*\n)*+[.'](?=%b)[ \t]*\w+[ \t]+\S" % (_TITLE, _TITLE))
_NOTEBOOK = re.compile(rb"""\s*\{\s*"(?:cells|metadata|nbformat|nbformat_minor)"\s*:""")
_ARRAY = re.compile(rb"""\s*\[\s*\{\s*"[^"\n]*"\s*:""")
_MARKUP = (b"<?xml", b"<svg", b"{\\rtf")  # text by its bytes, but no reader knows what of it is meant to be read


def sniffed(path: Path) -> str | None:
    """The format of a file whose suffix says nothing; None where no reader is known for it, or it can not be read."""
    try:
        head = head_of(path)
        return certain_format(path, head) or _text_format(head)
    except OSError:
        return None


def certain_format(path: Path, head: bytes) -> str | None:
    """The format of a file that begins with `head`, where that is beyond doubt, whatever its name is."""
    for magic, format in _MAGIC:
        if head.startswith(magic):
            return format
    if head.startswith(_ZIP):
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            held = head + file.read()
        return next((format for member, format in _MEMBERS if member in held), None)
    if problem(head) is not None:
        return None
    if _HTML.match(head):
        return "html"
    return "man" if _is_roff(head) else None


def _text_format(head: bytes) -> str | None:
    """The format of text that is neither HTML nor roff."""
    if problem(head) is not None or head.lstrip().startswith(_MARKUP):
        return None
    if head.startswith(b"#!"):
        return "code"
    if _NOTEBOOK.match(head) and b'"cell_type"' in head:
        return "notebook"
    return "jsonl" if _holds_records(head) else "text"


def _holds_records(head: bytes) -> bool:
    """Whether a JSON object stands on the first line, or an array of them begins."""
    if _ARRAY.match(head):
        return True
    first, _, _ = head.lstrip().partition(b"\n")
    with suppress(ValueError, RecursionError):
        return first.startswith(b"{") and isinstance(json.loads(first), dict)
    return False


def _is_roff(head: bytes) -> bool:
    """Whether nothing but comments, requests and empty lines stands before the macro that every manual page has."""
    return _ROFF.match(head) is not None

"""Bytes → text, or the reason why not. The encoding is never guessed: a wrong guess spoils text in silence."""

from __future__ import annotations

import codecs
from pathlib import Path

from llmtune.corpus.readers.reader import BINARY, EMPTY, ENCODING, Unreadable

_MARKS = (  # the longer marks first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 8192  # bytes that decide whether a file is binary
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))  # escape and backspace stand in logs and manual pages


def problem(head: bytes) -> Unreadable | None:
    """Why a file that begins with `head` holds no text, or None."""
    if not head:
        return Unreadable(EMPTY, "0 bytes")
    if marked_encoding(head):
        return None
    controls = len(head) - len(head.translate(None, _CONTROL))
    if b"\0" in head or controls > 0.05 * len(head):
        return Unreadable(BINARY, f"{controls} control characters in the first {len(head)} bytes")
    return None


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the start declares."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, as many as `problem` looks at."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def decode(data: bytes, encoding: str) -> str:
    """Strictly decoded text; a byte order mark wins over `encoding`. Raises Unreadable with the first wrong byte."""
    encoding = marked_encoding(data[:4]) or encoding
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise Unreadable(ENCODING, f"not {encoding}: {byte} ({error.reason})") from error


def read_text(path: Path, encoding: str) -> str:
    """The text of a whole file. Raises Unreadable when it is empty, binary or in another encoding."""
    data = path.read_bytes()
    if found := problem(data[:_HEAD]):
        raise found
    return decode(data, encoding)

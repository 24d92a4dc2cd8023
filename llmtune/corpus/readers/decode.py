"""Bytes → text, or the reason why not: strictly in the encoding that is named, marked, declared or detected."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from llmtune.corpus.readers.detect import detected, meaning_of
from llmtune.corpus.readers.reader import BINARY, EMPTY, ENCODING, Unreadable
from llmtune.corpus.settings import AUTO_ENCODING

_MARKS = (  # the longer marks first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 8192  # bytes that decide whether a file is binary
_CHUNK = 1 << 20  # bytes of a long file looked at together
# As Python, Emacs and vi do, in the first two lines: `-*- coding: latin-1 -*-`, `vim: fileencoding=latin-1`.
_DECLARED = re.compile(rb"\A(?:[^\n]*\n)?[^\n]*?coding[:=][ \t]*([-\w.]+)")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))  # escape and backspace stand in logs and manual pages


def problem(head: bytes, encoding: str = AUTO_ENCODING) -> Unreadable | None:
    """Why a file that begins with `head` holds no text, or None; `encoding` is the one that the recipe names."""
    if not head:
        return Unreadable(EMPTY, "0 bytes")
    if marked_encoding(head) or is_wide(encoding):
        return None
    controls = len(head) - len(head.translate(None, _CONTROL))
    if b"\0" in head or controls > 0.05 * len(head):
        return Unreadable(BINARY, f"{controls} control characters in the first {len(head)} bytes")
    return None


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the start declares."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def is_wide(encoding: str) -> bool:
    """Whether zero bytes stand in text of this encoding: in UTF-16 and UTF-32."""
    return encoding != AUTO_ENCODING and b"\0" in "a".encode(encoding)


def stream_encoding(head: bytes, encoding: str) -> str:
    """The encoding to open a file in that begins with `head`: as it is marked, else `encoding`. Python's streams want
    the order of bytes, which is little-endian without a mark, as on the web."""
    known = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
    return marked_encoding(head) or known.get(encoding.lower().replace("_", "-"), encoding)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, as many as `problem` looks at."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def decode(data: bytes, encoding: str) -> str:
    """Strictly decoded text; a byte order mark wins over `encoding`. `auto`: UTF-8, else what the first two lines
    declare, else what is detected for sure. Raises Unreadable with the first wrong byte; MissingExtra."""
    encoding = marked_encoding(data[:4]) or encoding
    if encoding != AUTO_ENCODING:
        return _strict(data, encoding)
    try:
        return _strict(data, "utf-8")
    except Unreadable as error:
        return _strict(data, _told(data, error))


def read_text(path: Path, encoding: str) -> str:
    """The text of a whole file. Raises Unreadable when it is empty, binary or in another encoding."""
    with path.open("rb") as file:
        if found := problem(file.read(_HEAD), encoding):  # before all of a file of any size is read
            raise found
        file.seek(0)
        return decode(file.read(), encoding)


def open_text(path: Path, encoding: str) -> TextIO:
    """A file of any length to be read line by line, strictly as `decode` would, line ends as they are. What is not
    in its encoding raises UnicodeDecodeError as it is reached. Raises Unreadable."""
    head = head_of(path)
    if found := problem(head, encoding):
        raise found
    encoding = stream_encoding(head, encoding)
    if encoding == AUTO_ENCODING:
        encoding = "utf-8"
        if (foreign := _not_utf8(path)) is not None:
            try:
                decode(foreign, "utf-8")
            except Unreadable as error:
                encoding = _told(foreign, error)
    return path.open(encoding=encoding, newline="")


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise Unreadable(ENCODING, f"not {encoding}: {byte} ({error.reason})") from error
    except UnicodeError as error:  # of codecs that are more than a table
        raise Unreadable(ENCODING, f"not {encoding}: {error}") from error


def _told(data: bytes, error: Unreadable) -> str:
    """The encoding of data that is not UTF-8. Raises `error`, and more, where it can not be told."""
    if found := _declared(data) or detected(data):
        return found
    raise Unreadable(ENCODING, f"{error.detail}; what it is can not be told for sure: say so in `encoding`") from error


def _declared(data: bytes) -> str | None:
    """The encoding that the first two lines declare, if Python knows it and all of `data` is in it."""
    found = _DECLARED.match(data[:1000])
    name = meaning_of(found[1].decode()) if found else None
    with suppress(UnicodeError):
        if name is not None:
            data.decode(name)
            return name
    return None


def _not_utf8(path: Path) -> bytes | None:
    """The whole lines of the first piece of a file that is not UTF-8, or None if all of it is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            try:
                decoder.decode(chunk, final=len(chunk) < _CHUNK)
            except UnicodeDecodeError:
                return chunk + file.readline()
    return None

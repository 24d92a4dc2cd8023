"""JSON Lines (one record a line) and JSON files that hold an array of records, or one."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from llmtune.corpus.readers.decode import decode, is_wide, marked_encoding, problem, stream_encoding
from llmtune.corpus.readers.json_array import elements
from llmtune.corpus.readers.reader import (
    DAMAGED,
    ENCODING,
    MALFORMED,
    TOO_LARGE,
    Piece,
    RawDocument,
    Rejected,
    Unreadable,
)
from llmtune.corpus.readers.records import document_of
from llmtune.corpus.settings import AUTO_ENCODING, Source
from llmtune.words import human_bytes

_LONGEST = 64 << 20  # bytes of a line, characters of an element: one record in memory, whatever the file
_HEAD = 8192  # bytes that tell how a file is read
_ALL = Piece(0, sys.maxsize, 1)
_BETWEEN = re.compile(r"[\s,\[]*")  # records of an array or of lines


class JsonlReader:
    """A line, or an element of the array, is a document. A bad line is rejected and the next one read."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if found := problem(head, source.encoding):
                raise found
            file.seek(0)
            encoding, text = _beginning(head, source)
            if text.startswith("["):
                yield from _array(io.TextIOWrapper(file, encoding), source)
            elif _is_one_object(path, text):
                yield _whole(file, source)
            elif is_wide(encoding):
                yield from _lines(_AsUtf8(file, encoding), "utf-8", source, _ALL)
            else:
                yield from _lines(file, _encoding(source), source, _ALL)

    def pieces(self, path: Path, source: Source, size: int) -> Iterator[Piece]:
        """Whole lines together; of an array, or of one value, none."""
        with path.open("rb") as file:
            head = file.read(_HEAD)
            encoding, text = _beginning(head, source)
            whole = text.startswith("[") or _is_one_object(path, text) or is_wide(encoding)
            if not whole and problem(head, source.encoding) is None:
                file.seek(0)
                yield from _pieces(file, size)

    def read_piece(self, path: Path, source: Source, piece: Piece) -> Iterator[RawDocument | Rejected]:
        with path.open("rb") as file:
            file.seek(piece.start)
            yield from _lines(file, _encoding(source), source, piece)


def _beginning(head: bytes, source: Source) -> tuple[str, str]:
    """(encoding, text) of the first bytes of a file."""
    encoding = stream_encoding(head, _encoding(source))
    return encoding, head.decode(encoding, "ignore").lstrip()


class _AsUtf8:
    """The lines of a file in UTF-16 or UTF-32, in which no byte ends a line."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = io.TextIOWrapper(file, encoding, newline="\n")

    def readline(self, size: int) -> bytes:
        try:
            return self._file.readline(size).encode()
        except UnicodeDecodeError as error:
            raise _foreign(error) from error


def _is_one_object(path: Path, text: str) -> bool:
    """Whether a file is called `.json` and begins with an object that goes on on the next line."""
    first, ends, _ = text.partition("\n")
    goes_on = text.startswith("{") and bool(ends) and not first.rstrip().endswith("}")
    return goes_on and path.suffix.lower() == ".json"


def _encoding(source: Source) -> str:
    """JSON is UTF-8 by its standard (RFC 8259): a line in another encoding is named, unless the recipe says which."""
    return "utf-8" if source.encoding == AUTO_ENCODING else source.encoding


def _pieces(file: BinaryIO, size: int) -> Iterator[Piece]:
    """Each ends in its second half, behind the line with the roundest number there, the one divided by the highest
    power of two: behind a line that has become longer, the next pieces soon end where they did before. A line that has
    no end there is all of its piece's rest."""
    start, first = 0, 1
    while block := file.read(size):
        if len(block) < size:
            yield Piece(start, start + len(block), first)
            return
        half = size // 2
        is_end = np.frombuffer(block, np.uint8) == ord("\n")
        last, ends = first + int(np.count_nonzero(is_end[:half])), np.flatnonzero(is_end[half:])
        if len(ends):
            number = _roundest(last, last + len(ends) - 1)
            end = start + half + int(ends[number - last]) + 1
            last = number
            file.seek(end)
        else:
            end = start + size + _rest_of_line(file, sys.maxsize)
        yield Piece(start, end, first)
        start, first = end, last + 1


def _roundest(low: int, high: int) -> int:
    """The number from low to high, both included, that the highest power of two divides."""
    differ = ((low - 1) ^ high).bit_length() - 1
    return high >> differ << differ


def _lines(file: BinaryIO | _AsUtf8, encoding: str, source: Source, piece: Piece) -> Iterator[RawDocument | Rejected]:
    number, left = piece.first - 1, piece.end - piece.start  # a file may have grown behind it
    while line := file.readline(min(_LONGEST + 1, left)):
        number += 1
        left -= len(line)
        if len(line) > _LONGEST and not line.endswith(b"\n"):
            rest = _rest_of_line(file, left)
            left -= rest
            size = human_bytes(len(line) + rest)
            yield Rejected(f"#{number}", TOO_LARGE, f"a line of {size}; at most {human_bytes(_LONGEST)} are read")
        elif line.strip():
            yield _record(line, encoding, source, f"#{number}")


def _rest_of_line(file: BinaryIO | _AsUtf8, left: int) -> int:
    """Bytes up to the next line, of those that are left, which are passed over."""
    size = 0
    while part := file.readline(min(1 << 20, left - size)):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _record(line: bytes, encoding: str, source: Source, part: str) -> RawDocument | Rejected:
    try:
        record = json.loads(decode(line, encoding))
    except Unreadable as error:
        return Rejected(part, error.reason, error.detail)
    except (ValueError, RecursionError) as error:
        return Rejected(part, MALFORMED, f"not JSON: {error}")
    return document_of(record, source, part)


def _whole(file: BinaryIO, source: Source) -> RawDocument | Rejected:
    data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Unreadable(TOO_LARGE, f"one value of more than {human_bytes(_LONGEST)}")
    try:
        return document_of(json.loads(decode(data, _encoding(source))), source, "#1")
    except (ValueError, RecursionError) as error:
        raise Unreadable(DAMAGED, f"not JSON: {error}") from error


def _array(file: TextIO, source: Source) -> Iterator[RawDocument | Rejected]:
    try:
        for number, record in enumerate(elements(file, _LONGEST), 1):
            yield document_of(record, source, f"#{number}")
    except UnicodeDecodeError as error:
        raise _foreign(error) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(DAMAGED, f"not JSON: {error}") from error


def _foreign(error: UnicodeDecodeError) -> Unreadable:
    return Unreadable(ENCODING, f"not {error.encoding}: byte 0x{error.object[error.start]:02x} ({error.reason})")


def first_records(path: Path, source: Source, size: int) -> tuple[list[RawDocument | Rejected], int]:
    """The whole records in the first `size` bytes of a file's text, lines or array, and how many bytes of the file
    they took. For estimates: what is not JSON ends it."""
    with path.open("rb") as file:
        data = file.read(size)
    text = data.decode(marked_encoding(data) or _encoding(source), "replace").removeprefix("\ufeff")
    found: list[RawDocument | Rejected] = []
    at = 0
    with suppress(ValueError, RecursionError):
        while between := _BETWEEN.match(text, at):
            record, at = json.JSONDecoder().raw_decode(text, between.end())
            found.append(document_of(record, source, ""))
    return found, round(len(data) * at / max(len(text), 1))

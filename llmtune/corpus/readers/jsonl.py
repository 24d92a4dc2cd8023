"""JSON Lines (one record a line) and JSON files that hold an array of records, or one."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from llmtune.corpus.readers.decode import decode, is_wide, marked_encoding, problem, stream_encoding
from llmtune.corpus.readers.json_array import elements
from llmtune.corpus.readers.reader import DAMAGED, ENCODING, MALFORMED, TOO_LARGE, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.records import document_of
from llmtune.corpus.settings import AUTO_ENCODING, Source
from llmtune.words import human_bytes

_LONGEST = 64 << 20  # bytes of a line, characters of an element: one record in memory, whatever the file
_BETWEEN = re.compile(r"[\s,\[]*")  # records of an array or of lines


class JsonlReader:
    """A line, or an element of the array, is a document. A bad line is rejected and the next one read."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        with path.open("rb") as file:
            head = file.read(8192)
            if found := problem(head, source.encoding):
                raise found
            file.seek(0)
            encoding = stream_encoding(head, _encoding(source))
            text = head.decode(encoding, "ignore").lstrip()
            if text.startswith("["):
                yield from _array(io.TextIOWrapper(file, encoding), source)
            elif _is_one_object(path, text):
                yield _whole(file, source)
            elif is_wide(encoding):
                yield from _lines(_AsUtf8(file, encoding), "utf-8", source)
            else:
                yield from _lines(file, _encoding(source), source)


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


def _lines(file: BinaryIO | _AsUtf8, encoding: str, source: Source) -> Iterator[RawDocument | Rejected]:
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST and not line.endswith(b"\n"):
            size = len(line) + _rest_of_line(file)
            yield Rejected(
                f"#{number}", TOO_LARGE, f"a line of {human_bytes(size)}; at most {human_bytes(_LONGEST)} are read"
            )
        elif line.strip():
            yield _record(line, encoding, source, f"#{number}")


def _rest_of_line(file: BinaryIO | _AsUtf8) -> int:
    """Bytes up to the next line, which are passed over."""
    size = 0
    while piece := file.readline(1 << 20):
        size += len(piece)
        if piece.endswith(b"\n"):
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

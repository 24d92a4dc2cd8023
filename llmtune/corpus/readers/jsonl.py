"""JSON Lines (one record a line) and JSON files that hold an array of records, or one; gzip too."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from llmtune.corpus.readers.decode import decode, marked_encoding, problem
from llmtune.corpus.readers.reader import DAMAGED, MALFORMED, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.records import document_of
from llmtune.corpus.settings import Source

_BETWEEN = re.compile(r"[\s,\[]*")  # records of an array or of lines


class JsonlReader:
    """A line, or an element of the array, is a document. A bad line is rejected and the next one read."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        try:
            with _open(path) as file:
                head = file.read(8192)
                if found := problem(head):
                    raise found
                file.seek(0)
                if marked_encoding(head) in ("utf-16", "utf-32") or _is_one_value(path, head):
                    yield from _array(decode(file.read(), source.encoding), source)
                else:
                    yield from _lines(file, source)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Unreadable(DAMAGED, f"not a whole gzip file: {error}") from error


def _is_one_value(path: Path, head: bytes) -> bool:
    """Whether a file is an array, or (`.json` only) an object that goes on on the next line."""
    head = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    first, ends, _ = head.partition(b"\n")
    goes_on = head.startswith(b"{") and bool(ends) and not first.rstrip().endswith(b"}")
    return head.startswith(b"[") or (goes_on and path.name.lower().endswith((".json", ".json.gz")))


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(file: BinaryIO, source: Source) -> Iterator[RawDocument | Rejected]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _record(line, source, f"#{number}")


def _record(line: bytes, source: Source, part: str) -> RawDocument | Rejected:
    try:
        record = json.loads(decode(line, source.encoding))
    except Unreadable as error:
        return Rejected(part, error.reason, error.detail)
    except (ValueError, RecursionError) as error:
        return Rejected(part, MALFORMED, f"not JSON: {error}")
    return document_of(record, source, part)


def _array(text: str, source: Source) -> Iterator[RawDocument | Rejected]:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(DAMAGED, f"not JSON: {error}") from error
    for number, record in enumerate(records if isinstance(records, list) else [records], 1):
        yield document_of(record, source, f"#{number}")


def first_records(path: Path, source: Source, size: int) -> tuple[list[RawDocument | Rejected], int]:
    """The whole records in the first `size` bytes of a file's text, lines or array, and how many bytes of the file
    (compressed, if it is) they took. For estimates: what is not JSON ends it."""
    with path.open("rb") as raw:
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        data = file.read(size)
        taken = raw.tell()
    text = data.decode(marked_encoding(data) or source.encoding, "replace").removeprefix("\ufeff")
    found: list[RawDocument | Rejected] = []
    at = 0
    with suppress(ValueError, RecursionError):
        while between := _BETWEEN.match(text, at):
            record, at = json.JSONDecoder().raw_decode(text, between.end())
            found.append(document_of(record, source, ""))
    return found, round(taken * at / max(len(text), 1))

"""What every reader is: a file (or, for one that reads a folder as a whole, the folder) → a stream of raw documents.

To add a format: one file here with a class that has `read`, one line in `FORMATS` of `readers/__init__.py`, and its
name in `Format` of `corpus/settings.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from llmtune.corpus.settings import Source

# Reasons for which a file or a record is not read. Counted in the card, so one wording each.
EMPTY = "empty file"
BINARY = "binary file"
ENCODING = "wrong encoding"
UNREADABLE = "unreadable file"
DAMAGED = "damaged file"
MALFORMED = "malformed record"
PROTECTED = "password-protected file"
SCANNED = "scanned page"
TOO_LARGE = "too large"
UNSAFE = "unsafe entry of an archive"
NESTED = "archives nested too deeply"
# Reasons for which a file that can be read is not wanted.
GENERATED = "generated code"
MINIFIED = "minified code"
VENDORED = "vendored code"
PROBLEMS = (EMPTY, BINARY, ENCODING, UNREADABLE, DAMAGED, MALFORMED, PROTECTED, SCANNED, TOO_LARGE, UNSAFE, NESTED)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation as read, role already one of system, user, assistant, tool."""

    role: str
    content: str


@dataclass(frozen=True)
class RawDocument:
    """One document as read, before cleaning: either `text` or `messages`.

    part: which part of the file it is (`#12` for the twelfth record), "" where the file is one document
    group: what it is a part of with others of its source, that go into one split with it; "" where it is whole
    format, changes: not of the reader; in which it was read, and (kind, amount) of what the clean-up did (clean/)
    """

    part: str = ""
    text: str | None = None
    messages: tuple[Turn, ...] | None = None
    licence: str | None = None
    format: str = ""
    changes: tuple[tuple[str, int], ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Rejected:
    """A record that could not be read; the rest of its file can. `reason` is one of the words above."""

    part: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Piece:
    """A part of a file of records, which are read by what stands in it and nothing else of the file.

    start, end: its bytes. first: the number of its first record. groups: of Parquet, its row groups; footer: where the
    bytes begin that say, up to the end of the file, how they are to be read
    """

    start: int
    end: int
    first: int
    groups: range = range(0)
    footer: int | None = None


class Unreadable(Exception):
    """A file that can not be read at all; `reason` is one of the words above. The intake names, counts and skips it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Reader(Protocol):
    """Reads one format. Stateless; the same file and source give the same documents in the same order."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        """The documents of one file. Raises Unreadable; OSError is left to the caller."""
        ...


@runtime_checkable
class PieceReader(Reader, Protocol):
    """One that can also read a file piece by piece, by several processes: the same documents in the same order."""

    def pieces(self, path: Path, source: Source, size: int) -> Iterator[Piece]:
        """A file in pieces of at most about so many bytes, and half of it at least; none where it is only to be read
        whole. Where they end depends on the file alone."""
        ...

    def read_piece(self, path: Path, source: Source, piece: Piece) -> Iterator[RawDocument | Rejected]:
        """The documents of one piece, numbered as in the whole file."""
        ...

"""Large files of records in pieces: each is read like a small file, so several workers share one, and a build that was
killed goes on in the middle of it.

A piece is known by its own bytes and the number of its first record: of a file that has grown at its end only the last
one is new. Where pieces end depends on the file alone, and so does the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from llmtune.corpus.intake import true_format
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import UNREADABLE, Piece, PieceReader
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf, content_of, contents_of
from llmtune.errors import Disturbed, LlmtuneError
from llmtune.monitor import Bar, Monitor

_BYTES = 6_000_000  # of a piece, at most about, and half of it at least: a portion, as of small files
_LARGE = 8_000_000  # bytes above which a file is cut
_OF_RECORDS = ("jsonl", "parquet")  # not csv: whether a line ends a row is known only from the beginning on
_CHUNK = 1 << 20


def cut(source: Source, files: Sequence[FileOf], monitor: Monitor) -> list[tuple[FileOf, Any]]:
    """A source's files, large ones in pieces, each with what stands for its contents. Raises Disturbed when one changes
    meanwhile; Stopped."""
    large = sum(file.bytes for file in files if _is_large(file))
    # Two or three seconds a gigabyte.
    with monitor.bar("looking into large files", large / 1e6, "MB") if large else nullcontext(Bar()) as bar:
        pieces = [_pieces(file, source, bar, monitor) for file in files]
    whole = iter(contents_of(source, [file for file, found in zip(files, pieces, strict=True) if not found]))
    return [one for file, found in zip(files, pieces, strict=True) for one in found or [(file, next(whole))]]


def content_now(file: FileOf) -> Any:
    """What stands for the contents of a file on this disk, or of a piece of one."""
    if file.piece is None:
        return content_of(file)
    try:
        return _content(file, file.piece)
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror}"


def most_of_one(file: FileOf, source: Source) -> int:
    """How many bytes of a file one worker reads, by its first pieces if it is cut."""
    if not _is_large(file):
        return file.bytes
    with suppress(Exception):  # the build will meet it, and name it
        reader = reader_of(true_format(file, source))
        if isinstance(reader, PieceReader):
            pieces = islice(reader.pieces(file.path, source, _BYTES), 4)
            return max((piece.end - piece.start for piece in pieces), default=file.bytes)
    return file.bytes


def _is_large(file: FileOf) -> bool:
    here = file.distant is None and not file.container and file.problem is None
    return here and file.bytes > _LARGE and file.format in _OF_RECORDS


def _pieces(file: FileOf, source: Source, bar: Bar, monitor: Monitor) -> list[tuple[FileOf, Any]]:
    """A file's pieces, each with what stands for its contents; none where it is to be read whole."""
    if not _is_large(file):
        return []
    found: list[tuple[FileOf, Any]] = []
    try:
        before = file.path.stat()
        format = true_format(file, source)
        reader = reader_of(format) if format in _OF_RECORDS else None
        if not isinstance(reader, PieceReader):
            return []
        for piece in reader.pieces(file.path, source, _BYTES):
            monitor.safe_point()
            one = replace(file, format=format, bytes=piece.end - piece.start, piece=piece)
            found.append((one, _content(one, piece)))  # what was just looked through is still in memory
            bar.advance(one.bytes / 1e6)
        after = file.path.stat()
    except LlmtuneError:
        raise
    except Exception:  # whatever it is: the intake will meet it as it reads the whole file, and name it
        return []
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Disturbed("it changed while it was looked into", where=file.place, fix="run the same command again")
    return found if len(found) > 1 else []


def _content(file: FileOf, piece: Piece) -> list[Any]:
    digest = hashlib.sha256()
    with file.path.open("rb") as opened:
        opened.seek(piece.start)
        left = piece.end - piece.start
        while left and (chunk := opened.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if piece.footer is not None:
            opened.seek(piece.footer)
            digest.update(opened.read())
    return [file.format, digest.hexdigest(), piece.first]

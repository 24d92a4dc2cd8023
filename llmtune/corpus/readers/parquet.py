"""Parquet: a row is a document; only the columns that are needed are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.readers.decode import head_of
from llmtune.corpus.readers.reader import DAMAGED, EMPTY, ENCODING, Piece, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.records import columns_read, document_of
from llmtune.corpus.settings import Source

_OF_FOOTER = 20  # times the bytes of the footer are in a piece, which has the footer read and hashed


class ParquetReader:
    """Rows in the file's order, numbered from 1."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        if not head_of(path):
            raise Unreadable(EMPTY, "0 bytes")
        try:
            with pq.ParquetFile(path) as file:
                if not columns_read(source, file.schema_arrow.names):
                    raise Unreadable(DAMAGED, f"none of its columns is known: {', '.join(file.schema_arrow.names)}")
                yield from _rows(file, source, 1, None)
        except (pa.ArrowException, OSError) as error:
            raise _not_readable(error) from error

    def pieces(self, path: Path, source: Source, size: int) -> Iterator[Piece]:
        """Whole row groups together."""
        with pq.ParquetFile(path) as file:
            if columns_read(source, file.schema_arrow.names):
                yield from _pieces(file.metadata, path.stat().st_size, size)

    def read_piece(self, path: Path, source: Source, piece: Piece) -> Iterator[RawDocument | Rejected]:
        """Damage costs what is left of the piece."""
        number = piece.first
        try:
            with pq.ParquetFile(path) as file:
                for raw in _rows(file, source, number, list(piece.groups)):
                    yield raw
                    number += 1
        except (pa.ArrowException, OSError) as error:
            yield Rejected(f"#{number}", DAMAGED, f"{_not_readable(error).detail}; nor the rows behind it")


def _not_readable(error: Exception) -> Unreadable:
    return Unreadable(DAMAGED, f"not readable as Parquet: {error}")


def _rows(
    file: pq.ParquetFile, source: Source, number: int, groups: list[int] | None
) -> Iterator[RawDocument | Rejected]:
    """The rows of some row groups, or of all. number: of the first."""
    columns = columns_read(source, file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=256, row_groups=groups, columns=columns):
        for record in _records(batch):
            yield _document(record, source, f"#{number}")
            number += 1


def _pieces(about: pq.FileMetaData, length: int, size: int) -> Iterator[Piece]:
    """None where the row groups do not stand one behind the other, as they need not."""
    footer = length - about.serialized_size - 8  # behind it its length and a mark
    size = max(size, _OF_FOOTER * about.serialized_size)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    places = [place for group in groups for place in _place(group)]
    if not groups or [*places, footer] != sorted([*places, footer]):
        return
    ends = [*places[2::2], footer]
    start, first, begun, number = 0, 1, 0, 1
    for which, (group, end) in enumerate(zip(groups, ends, strict=True)):
        number += group.num_rows
        if end - start >= size // 2 or end == footer:
            yield Piece(start, end, first, range(begun, which + 1), footer)
            start, first, begun = end, number, which + 1


def _place(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where its bytes start and end."""
    columns = [group.column(number) for number in range(group.num_columns)]
    starts = [min(one.data_page_offset, one.dictionary_page_offset or one.data_page_offset) for one in columns]
    return min(starts), max(start + one.total_compressed_size for start, one in zip(starts, columns, strict=True))


def _records(batch: pa.RecordBatch) -> list[Any]:
    """The rows of a batch; in place of one with a string that is not UTF-8 (Parquet does not look), the error."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            return [error]
    return [record for row in range(len(batch)) for record in _records(batch.slice(row, 1))]


def _document(record: Any, source: Source, part: str) -> RawDocument | Rejected:
    if isinstance(record, UnicodeDecodeError):
        return Rejected(part, ENCODING, f"not utf-8: byte 0x{record.object[record.start]:02x} ({record.reason})")
    return document_of(record, source, part)

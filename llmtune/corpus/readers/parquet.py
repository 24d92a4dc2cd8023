"""Parquet: a row is a document; only the columns that are needed are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.readers.decode import head_of
from llmtune.corpus.readers.reader import DAMAGED, EMPTY, ENCODING, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.records import columns_read, document_of
from llmtune.corpus.settings import Source


class ParquetReader:
    """Rows in the file's order, numbered from 1."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        if not head_of(path):
            raise Unreadable(EMPTY, "0 bytes")
        number = 0
        try:
            with pq.ParquetFile(path) as file:
                columns = columns_read(source, file.schema_arrow.names)
                if not columns:
                    raise Unreadable(DAMAGED, f"none of its columns is known: {', '.join(file.schema_arrow.names)}")
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    for record in _records(batch):
                        number += 1
                        yield _document(record, source, f"#{number}")
        except (pa.ArrowException, OSError) as error:
            raise Unreadable(DAMAGED, f"not readable as Parquet: {error}") from error


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

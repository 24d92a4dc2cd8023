"""Parquet: a row is a document; only the columns that are needed are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.readers.decode import head_of
from llmtune.corpus.readers.reader import DAMAGED, EMPTY, RawDocument, Rejected, Unreadable
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
                columns = columns_read(source.columns, file.schema_arrow.names)
                if not columns:
                    raise Unreadable(DAMAGED, f"none of its columns is known: {', '.join(file.schema_arrow.names)}")
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    for record in batch.to_pylist():
                        number += 1
                        yield document_of(record, source, f"#{number}")
        except pa.ArrowException as error:
            raise Unreadable(DAMAGED, f"not readable as Parquet: {error}") from error

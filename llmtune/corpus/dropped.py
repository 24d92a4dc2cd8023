"""`dropped.parquet`: every document that was left out, a row each with the reason. What `llmtune corpus why` reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.errors import BadArtifact
from llmtune.words import visible

NAME = "dropped.parquet"
CONTAMINATED = "contaminated.jsonl"  # beside it: each evaluation text that was found in a document
_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "reason", "detail")])
_ROWS = 20_000  # of a row group; they stand in memory


@dataclass(frozen=True)
class Dropped:
    """A document, file or record that is not in the corpus. reason: one wording each (drops.py, readers/reader.py)."""

    id: str
    reason: str
    detail: str


class DropLog:
    """Writes such a file, in the order given; a context manager. The file is whole once that is left."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, str]] = []

    def __enter__(self) -> DropLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, id: str, reason: str, detail: str) -> None:
        """Put down one."""
        self._rows.append({"id": id, "reason": reason, "detail": visible(detail)})
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []


def read_dropped(path: Path) -> Iterator[Dropped]:
    """The rows of such a file, or none where there is no file. Raises BadArtifact when it is damaged."""
    if not path.exists():
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    yield Dropped(**row)
    except (OSError, pa.ArrowException, TypeError) as error:
        raise BadArtifact(f"damaged list of dropped documents: {error}", where=str(path)) from error

"""The corpus on disk: Parquet shards by split, and the one way to read and write them.

    train/00000.parquet …   valid/…   test/…
    card.json               where the documents came from, what was done to them, counts, licences
    samples.json            a few kept and dropped documents with the reason, for the report

A document has either `text` (continued pre-training) or `messages` (instruction tuning).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmtune.errors import BadArtifact

SPLITS = ("train", "valid", "test")
CHARACTERS_PER_SHARD = 16_000_000  # they stand in memory twice as they are written
_TOGETHER = 1024  # documents of a row group
_CHARACTERS_TOGETHER = 4_000_000  # that stand in memory twice, as they are put into columns

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # source name and path in it, unique in the corpus
        pa.field("text", pa.large_string()),
        pa.field(
            "messages",
            pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.large_string())])),
        ),
        pa.field("source", pa.string(), nullable=False),  # the recipe's name of the source
        pa.field("licence", pa.string()),  # SPDX id or a phrase, where known
        pa.field("sha256", pa.string(), nullable=False),  # of the UTF-8 text (messages: of their canonical JSON)
        pa.field("group", pa.string(), nullable=False),  # near-duplicates share one; a group has one split
        pa.field("origin", pa.string()),  # id of the document that augmentation made it from; none of an original
        pa.field("repeats", pa.float32(), nullable=False),  # how often an epoch of training reads it, at least once
        pa.field(  # what the clean-up did to it (clean/changes.py)
            "changes", pa.list_(pa.struct([pa.field("kind", pa.string()), pa.field("amount", pa.int64())]))
        ),
    ]
)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; role is `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str


@dataclass(frozen=True)
class Document:
    """One document; the fields are those of SCHEMA."""

    id: str
    text: str | None
    messages: tuple[Message, ...] | None
    source: str
    licence: str | None
    sha256: str
    group: str
    origin: str | None = None
    repeats: float = 1.0
    changes: tuple[tuple[str, int], ...] = ()


class SplitWriter:
    """Writes documents, in the order given, as shards of one split below the corpus folder; a context manager. A shard
    is full at either limit; what goes into one stands in memory, as Arrow's columns."""

    def __init__(
        self, folder: Path, split: str, rows_per_shard: int = 20_000, characters_per_shard: int = CHARACTERS_PER_SHARD
    ) -> None:
        self._target = folder / split
        self._target.mkdir(parents=True, exist_ok=True)
        self._rows_per_shard, self._characters_per_shard = rows_per_shard, characters_per_shard
        self._waiting: list[pa.Table] = []
        self._shards = self._rows = self._characters = 0
        self.total = 0

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._waiting or self._shards == 0):
            self._flush()

    def add(self, table: pa.Table, characters: NDArray[np.int64]) -> None:
        """Documents as rows of SCHEMA, with the characters of each."""
        self.total += len(table)
        while len(table):
            sums = self._characters + np.cumsum(characters)
            full = int(np.searchsorted(sums, self._characters_per_shard)) + 1
            taken = min(full, self._rows_per_shard - self._rows, len(table))
            self._waiting.append(table.slice(0, taken))
            self._rows += taken
            self._characters = int(sums[taken - 1])
            if self._rows == self._rows_per_shard or self._characters >= self._characters_per_shard:
                self._flush()
            table, characters = table.slice(taken), characters[taken:]

    def _flush(self) -> None:
        table = pa.concat_tables([SCHEMA.empty_table(), *self._waiting]).combine_chunks()
        # Small row groups, so that a reader holds a thousand documents at a time, not a shard.
        path = self._target / f"{self._shards:05d}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=_TOGETHER)
        self._shards += 1
        self._waiting.clear()
        self._rows = self._characters = 0


def write_split(
    folder: Path,
    split: str,
    documents: Iterable[Document],
    rows_per_shard: int = 20_000,
    characters_per_shard: int = CHARACTERS_PER_SHARD,
) -> int:
    """Write documents as a SplitWriter does; returns their number."""
    with SplitWriter(folder, split, rows_per_shard, characters_per_shard) as writer:
        left = iter(documents)
        while together := list(_few(left)):
            sizes = np.array([_size(document) for document in together], np.int64)
            writer.add(table_of(together), sizes)
    return writer.total


def _few(documents: Iterator[Document]) -> Iterator[Document]:
    """The next documents: a row group of them, or fewer where they are long."""
    characters = 0
    for document in islice(documents, _TOGETHER):
        yield document
        characters += _size(document)
        if characters >= _CHARACTERS_TOGETHER:
            return


def _size(document: Document) -> int:
    return len(document.text or "") + sum(len(message.content) for message in document.messages or ())


def _row(document: Document) -> dict[str, object]:
    row = dict(vars(document))
    if document.messages is not None:
        row["messages"] = [vars(message) for message in document.messages]
    row["changes"] = [{"kind": kind, "amount": amount} for kind, amount in document.changes]
    return row


def read_split(corpus: Path, split: str) -> Iterator[Document]:
    """The documents of one split in their stored order; raises BadArtifact when a shard is missing or damaged."""
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=_TOGETHER):
                    yield from documents_of(batch)
        except (OSError, pa.ArrowException, TypeError) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error


def chosen(corpus: Path, split: str, ids: Iterable[str]) -> Iterator[Document]:
    """The documents of a split with these ids, in their stored order. Where none of them is, ids alone are read. Raises
    BadArtifact as `read_split`."""
    wanted = pa.array(sorted(ids), pa.string())
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                for number in range(file.num_row_groups):
                    found = pc.is_in(file.read_row_group(number, ["id"])["id"], wanted).to_pylist()
                    if any(found):
                        group = file.read_row_group(number)
                        for row in range(len(group)):
                            if found[row]:
                                yield from documents_of(group.slice(row, 1))
        except (OSError, pa.ArrowException, TypeError) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error


def table_of(documents: Iterable[Document]) -> pa.Table:
    """Documents as rows of SCHEMA."""
    return pa.Table.from_pylist([_row(document) for document in documents], schema=SCHEMA)


def documents_of(rows: pa.Table | pa.RecordBatch) -> Iterator[Document]:
    """The documents that stand in rows of SCHEMA."""
    for row in rows.to_pylist():
        turns = row.pop("messages")
        messages = tuple(Message(**turn) for turn in turns) if turns is not None else None
        changes = tuple((one["kind"], one["amount"]) for one in row.pop("changes", None) or ())
        yield Document(messages=messages, changes=changes, **row)


def with_columns(table: pa.Table, **columns: Sequence[object]) -> pa.Table:
    """Rows of SCHEMA with other values in some columns."""
    for name, values in columns.items():
        field = SCHEMA.field(name)
        table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    return table


def count(corpus: Path, split: str) -> int:
    """Number of documents in a split, from the Parquet footers alone; raises BadArtifact as `read_split`."""
    rows = 0
    for shard in shards_of(corpus, split):
        try:
            rows += pq.read_metadata(shard).num_rows
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
    return rows


def named(corpus: Path, split: str) -> Iterator[tuple[str, str, str | None, str]]:
    """(id, sha256, licence, group) of the documents of a split, from these columns alone; raises BadArtifact as
    `read_split`."""
    for table in tables_of(corpus, split, ["id", "sha256", "licence", "group"]):
        yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def tables_of(corpus: Path, split: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The documents of a split as Arrow tables, a row group each; raises BadArtifact as `read_split`."""
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number, columns)
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error


def repeats_of(corpus: Path, split: str) -> NDArray[np.float64]:
    """(documents,): how often an epoch of training reads each one of a split; raises BadArtifact as `read_split`."""
    found: list[NDArray[np.float64]] = []
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                known = "repeats" in file.schema_arrow.names  # not in a corpus of an earlier version
                rows = file.metadata.num_rows
                column = file.read(["repeats"])["repeats"].to_numpy() if known else np.ones(rows)
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
        found.append(column.astype(np.float64))
    return np.concatenate(found)


def originals(corpus: Path, split: str) -> list[int]:
    """Places in a split of the documents that augmentation did not make, from one column; raises BadArtifact as
    `read_split`."""
    found: list[int] = []
    first = 0
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                rows = file.metadata.num_rows
                made = file.read(["origin"])["origin"].is_valid() if "origin" in file.schema_arrow.names else None
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
        found += [first + row for row in range(rows) if made is None or not made[row].as_py()]
        first += rows
    return found


def shards_of(corpus: Path, split: str) -> list[Path]:
    """The files of a split, numbered from 0 without a gap."""
    shards = sorted((corpus / split).glob("*.parquet"))
    if not shards:
        raise BadArtifact(f"corpus has no '{split}' split", where=str(corpus))
    for number, shard in enumerate(shards):
        if shard.name != f"{number:05d}.parquet":
            raise BadArtifact(f"shard {number:05d}.parquet of the corpus is missing", where=str(corpus / split))
    return shards

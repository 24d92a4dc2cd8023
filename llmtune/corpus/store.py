"""The corpus on disk: Parquet shards by split, and the one way to read and write them.

    train/00000.parquet …   valid/…   test/…
    card.json               where the documents came from, what was done to them, counts, licences
    samples.json            a few kept and dropped documents with the reason, for the report

A document has either `text` (continued pre-training) or `messages` (instruction tuning).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmtune.errors import BadArtifact

SPLITS = ("train", "valid", "test")

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


def write_split(
    folder: Path,
    split: str,
    documents: Iterable[Document],
    rows_per_shard: int = 20_000,
    characters_per_shard: int = 64_000_000,
) -> int:
    """Write documents, in the order given, as shards of one split below the corpus folder; returns their number.

    A shard is full at either limit; the rows of one shard stand in memory."""
    target = folder / split
    target.mkdir(parents=True, exist_ok=True)
    total = shard = characters = 0
    rows: list[dict[str, object]] = []

    def flush() -> None:
        nonlocal shard
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        # Small row groups, so that a reader holds a thousand documents at a time, not a shard.
        pq.write_table(table, target / f"{shard:05d}.parquet", compression="zstd", row_group_size=1024)
        shard += 1
        rows.clear()

    def size(document: Document) -> int:
        return len(document.text or "") + sum(len(message.content) for message in document.messages or ())

    for document in documents:
        row = dict(vars(document))
        if document.messages is not None:
            row["messages"] = [vars(message) for message in document.messages]
        row["changes"] = [{"kind": kind, "amount": amount} for kind, amount in document.changes]
        rows.append(row)
        total += 1
        characters += size(document)
        if len(rows) == rows_per_shard or characters >= characters_per_shard:
            flush()
            characters = 0
    if rows or shard == 0:
        flush()
    return total


def read_split(corpus: Path, split: str) -> Iterator[Document]:
    """The documents of one split in their stored order; raises BadArtifact when a shard is missing or damaged."""
    for shard in shards_of(corpus, split):
        try:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        turns = row.pop("messages")
                        messages = tuple(Message(**turn) for turn in turns) if turns is not None else None
                        changes = tuple((one["kind"], one["amount"]) for one in row.pop("changes", None) or ())
                        yield Document(messages=messages, changes=changes, **row)
        except (OSError, pa.ArrowException, TypeError) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error


def count(corpus: Path, split: str) -> int:
    """Number of documents in a split, from the Parquet footers alone; raises BadArtifact as `read_split`."""
    rows = 0
    for shard in shards_of(corpus, split):
        try:
            rows += pq.read_metadata(shard).num_rows
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error
    return rows


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

"""The translation memory: what was translated stays so, whatever happens to the process.

SQLite in the work folder. Segments are translated in groups: the first so many that are new, in the order of the
corpus, the next so many, and so on. A group is written in one transaction, so that it is there wholly or not at all,
and a job that was killed finds the same groups again, those after the last finished one still to do. So a model's
batches are the same as without the kill, and with them its bits.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from llmtune.augment.engine import RoundTrip
from llmtune.files import fingerprint


class Memory:
    """Round trips by the content of their segment, made by one engine."""

    def __init__(self, file: Path, engine: Mapping[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._made_by = fingerprint(dict(engine))
        self._base = sqlite3.connect(file, isolation_level=None)
        # A killed process loses nothing that was written; the log of it makes a commit cheap.
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS trips "
            "(segment BLOB PRIMARY KEY, part INTEGER, pivot TEXT, text TEXT, unknown INTEGER, broken INTEGER) "
            "WITHOUT ROWID"
        )

    def close(self) -> None:
        self._base.close()

    def part_of(self, segment: str) -> int | None:
        """The number of the group in which it was translated; None where it was not yet."""
        row = self._base.execute("SELECT part FROM trips WHERE segment = ?", (self._key(segment),)).fetchone()
        return None if row is None else int(row[0])

    def __getitem__(self, segment: str) -> RoundTrip | None:
        """Its round trip; None where the engine failed on it. Raises KeyError where it was not translated."""
        row = self._base.execute(
            "SELECT pivot, text, unknown, broken FROM trips WHERE segment = ?", (self._key(segment),)
        ).fetchone()
        if row is None:
            raise KeyError(segment)
        return None if row[0] is None else RoundTrip(*row)

    def add(self, part: int, segments: Sequence[str], trips: Sequence[RoundTrip | None]) -> None:
        """Keep a whole group."""
        rows = [
            (self._key(segment), part, *(astuple(trip) if trip else (None, None, 0, 0)))
            for segment, trip in zip(segments, trips, strict=True)
        ]
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO trips VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._base.execute("COMMIT")

    def groups(self, segments: Iterator[str], size: int) -> Iterator[tuple[int, list[str]]]:
        """(number, segments) of the groups that are still to be translated, in order. Add each before the next."""
        part, group = 0, dict[str, None]()
        for segment in segments:
            found = self.part_of(segment)
            if segment in group or (found is not None and found < part):
                continue
            group[segment] = None
            if len(group) == size:
                if found is None:
                    yield part, list(group)
                part, group = part + 1, {}
        if group and self.part_of(next(iter(group))) is None:
            yield part, list(group)

    def _key(self, segment: str) -> bytes:
        return hashlib.sha256(f"{self._made_by}\0{segment}".encode()).digest()

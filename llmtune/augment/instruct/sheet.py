"""What each document gives, kept in the work folder: a job that was killed reads no document twice.

A part is the drafts of the documents of some megabytes, in their order; it appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmtune.augment.instruct.draft import Draft
from llmtune.corpus.store import Document, count, read_split
from llmtune.files import write_text
from llmtune.monitor import Monitor

_PART_CHARACTERS = 4_000_000  # of documents; a few seconds


@dataclass(frozen=True)
class Judged:
    """A draft, and why it is no pair; None of one that is as far as it tells by itself."""

    draft: Draft
    reason: str | None


@dataclass(frozen=True)
class Sheet:
    """One document and what was made of it. asked: whether it was asked anything (in another language it is not)."""

    id: str
    source: str
    licence: str | None
    group: str
    repeats: float
    asked: bool
    judged: tuple[Judged, ...]


def sheet_of(document: Document, judged: tuple[Judged, ...] | None) -> Sheet:
    """The sheet of a document; judged: None where it was not asked."""
    return Sheet(
        document.id,
        document.source,
        document.licence,
        document.group,
        document.repeats,
        judged is not None,
        judged or (),
    )


def write_sheets(corpus: Path, split: str, folder: Path, make: Callable[[Document], Sheet], monitor: Monitor) -> None:
    """Make the sheets of the original texts of a split that are not yet in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(folder)
    done = sum(_header(part) for part in parts)
    documents = islice(read_split(corpus, split), done, None)
    with monitor.bar(f"pairs of {split}", count(corpus, split), "documents", done) as bar:
        number = len(parts)
        while True:
            lines: list[str] = []
            read = characters = 0
            for document in documents:
                read += 1
                if document.text is not None and document.origin is None:
                    lines.append(json.dumps(asdict(make(document)), ensure_ascii=False))
                    characters += len(document.text)
                    monitor.safe_point()
                bar.advance()
                if characters >= _PART_CHARACTERS:
                    break
            if not read:
                return
            write_text(folder / f"{number:06d}.jsonl", "\n".join([json.dumps(read), *lines]))
            number += 1


def read_sheets(folder: Path) -> Iterator[Sheet]:
    """The sheets of a split in the order of its documents."""
    for part in _parts(folder):
        for line in part.read_text(encoding="utf-8").split("\n")[1:]:
            yield _read(json.loads(line))


def _read(value: dict[str, Any]) -> Sheet:
    judged = tuple(Judged(Draft(**one["draft"]), one["reason"]) for one in value.pop("judged"))
    return Sheet(judged=judged, **value)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _header(part: Path) -> int:
    """How many documents of the split a part has read."""
    with part.open(encoding="utf-8") as file:
        return int(json.loads(file.readline()))

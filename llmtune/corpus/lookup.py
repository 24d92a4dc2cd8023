"""Look into a corpus that was made: what became of one document, and its clusters of near-duplicates."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.dropped import CONTAMINATED, NAME, Dropped, read_dropped
from llmtune.corpus.store import SPLITS, Document, read_split
from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.words import visible

_NEAREST = 5  # names offered in the place of one that is not there
_MEMBERS = 20  # of a cluster that are named


@dataclass(frozen=True)
class Fate:
    """What became of a document. split: where it stands; None: it was dropped. group: others of its group that are in
    the corpus. evaluation_texts: those found in it."""

    id: str
    split: str | None = None
    document: Document | None = None
    dropped: Dropped | None = None
    group: list[str] = field(default_factory=list)
    evaluation_texts: list[str] = field(default_factory=list)


def fate_of(corpus: Path, wanted: str) -> Fate:
    """What became of the document with this id, or whose id ends in it as no other's does.

    Raises LlmtuneError that names the nearest ids when there is none, or several; BadArtifact for a damaged corpus."""
    splits = dict(_ids(corpus))
    drops = {one.id: one for one in read_dropped(corpus / NAME)}
    id = _meant(visible(wanted), [*splits, *drops])
    found = [line["evaluation_text"] for line in _contaminated(corpus) if line["document"] == id]
    if id not in splits:
        return Fate(id, dropped=drops[id], evaluation_texts=found)
    document = next(document for document in read_split(corpus, splits[id]) if document.id == id)
    group = [other for other, name in _groups(corpus) if name == document.group and other != id]
    return Fate(id, splits[id], document, group=group[:_MEMBERS], evaluation_texts=found)


def largest_groups(corpus: Path, most: int) -> list[tuple[str, list[str]]]:
    """(group, ids of its documents in the corpus) of the groups with the most documents, at least two each."""
    sizes = Counter(name for _, name in _groups(corpus))
    chosen: dict[str, list[str]] = {name: [] for name, size in sizes.most_common(most) if size > 1}
    for id, name in _groups(corpus):
        if name in chosen and len(chosen[name]) < _MEMBERS:
            chosen[name].append(id)
    return list(chosen.items())


def some_of(corpus: Path, split: str, most: int, fits: Callable[[Document], bool]) -> Iterator[Document]:
    """The first documents of a split that fit."""
    for document in read_split(corpus, split):
        if most <= 0:
            return
        if fits(document):
            most -= 1
            yield document


def _ids(corpus: Path) -> Iterator[tuple[str, str]]:
    """(id, split) of all documents."""
    for split in SPLITS:
        for id, _ in _without_text(corpus, split):
            yield id, split


def _groups(corpus: Path) -> Iterator[tuple[str, str]]:
    """(id, group) of all documents."""
    for split in SPLITS:
        yield from _without_text(corpus, split)


def _without_text(corpus: Path, split: str) -> Iterator[tuple[str, str]]:
    for shard in sorted((corpus / split).glob("*.parquet")):
        try:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(columns=["id", "group"]):
                    yield from zip(batch["id"].to_pylist(), batch["group"].to_pylist(), strict=True)
        except (OSError, pa.ArrowException) as error:
            raise BadArtifact(f"damaged corpus shard: {error}", where=str(shard)) from error


def _contaminated(corpus: Path) -> Iterator[dict[str, str]]:
    path = corpus / CONTAMINATED
    if path.exists():
        yield from map(json.loads, filter(None, path.read_text(encoding="utf-8").split("\n")))


def _meant(wanted: str, ids: list[str]) -> str:
    if wanted in ids:
        return wanted
    ending = [id for id in ids if id.endswith(wanted)]
    if len(ending) == 1:
        return ending[0]
    near = ending or [id for id in ids if wanted.casefold() in id.casefold()] or difflib.get_close_matches(wanted, ids)
    names = ", ".join(near[:_NEAREST]) + (f" and {len(near) - _NEAREST} more" if len(near) > _NEAREST else "")
    what = "is the end of several ids" if ending else "no document of the corpus has this id, and none was dropped"
    raise LlmtuneError(
        what, where=wanted, fix=f"name one of: {names}" if names else "see ids with: llmtune corpus show"
    )

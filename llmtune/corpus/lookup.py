"""Look into a corpus that was made: what became of one document, and its clusters of near-duplicates."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.dropped import CONTAMINATED, NAME, Dropped, read_dropped
from llmtune.corpus.drops import EXACT, NEAR
from llmtune.corpus.store import SPLITS, Document, read_split
from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.words import visible

_NEAREST = 5  # names offered in the place of one that is not there
_MEMBERS = 20  # of a cluster that are named


@dataclass(frozen=True)
class Fate:
    """What became of a document. split: where it stands; None: it was dropped. group: others of its group that are in
    the corpus. copies: of it that were dropped. evaluation_texts: those found in it."""

    id: str
    split: str | None = None
    document: Document | None = None
    dropped: Dropped | None = None
    group: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
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
    copies = [copy.id for copy, original in _copies(drops.values()) if original == id]
    return Fate(id, splits[id], document, group=group[:_MEMBERS], copies=copies, evaluation_texts=found)


@dataclass
class Group:
    """Documents that are like each other. documents: how many in the corpus; copies: how many of theirs were dropped;
    named: (id, why it was dropped or "") of some of them, the kept ones first."""

    documents: int
    copies: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)


def largest_groups(corpus: Path, most: int) -> list[tuple[str, Group]]:
    """The groups with the most documents and copies of these that were dropped, at least two together."""
    group_of = dict(_groups(corpus))
    copies = [
        (copy, group_of[original]) for copy, original in _copies(read_dropped(corpus / NAME)) if original in group_of
    ]
    kept, gone = Counter(group_of.values()), Counter(name for _, name in copies)
    found = {name: Group(kept[name], gone[name]) for name, size in (kept + gone).most_common(most) if size > 1}
    told = chain(((id, name, "") for id, name in group_of.items()), ((one.id, name, _why(one)) for one, name in copies))
    for id, name, why in told:
        if name in found and len(found[name].named) < _MEMBERS:
            found[name].named.append((id, why))
    return list(found.items())


def _why(dropped: Dropped) -> str:
    return f"{dropped.reason} {dropped.detail}"


def _copies(dropped: Iterable[Dropped]) -> Iterator[tuple[Dropped, str]]:
    """Each document that was dropped as a copy, with the id of what it is a copy of in the end: that can have been
    dropped as a copy itself."""
    copies = {one.id: one for one in dropped if one.reason in (EXACT, NEAR)}
    for copy in copies.values():
        original = _original(copy)
        while original in copies:
            original = _original(copies[original])
        yield copy, original


def _original(copy: Dropped) -> str:
    """What a copy is one of, by its detail (duplicates.py)."""
    detail = copy.detail.removeprefix("of ")
    return detail.rpartition(", similarity ")[0] if copy.reason == NEAR else detail


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

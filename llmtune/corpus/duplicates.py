"""Which documents are copies of which, and which belong together on one side of the split.

exact      the same hash as an earlier document, or as a known one
near       from the recipe's similarity on (near.py): of an earlier document, or of a known one
groups     from a lower similarity on, documents that hold parts of one another (parts.py), and records that are said to
           be parts of one document
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.drops import EXACT, KNOWN, NEAR
from llmtune.corpus.near import PERMUTATIONS, Signatures, Sketcher, clusters, copies, group_threshold
from llmtune.corpus.parts import Paragraphs
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shingles import Hashes, hashed
from llmtune.corpus.sketch import compared_by
from llmtune.corpus.store import Document
from llmtune.corpus.text import compared_text
from llmtune.monitor import Monitor

_GROUP_DIGITS = 16  # hex digits of the SHA-256 that name a group: 64 bits


@dataclass(slots=True)
class Entry:
    """What is remembered of a document between reading and writing. left_out: the reason and detail for which it is not
    in the corpus after all. repeated: hashes of paragraphs that an earlier one has too, and that are taken out; sizes
    and hash are those without them."""

    id: str
    sha256: str
    source: int
    characters: int
    bytes: int
    licence: str | None
    group: str
    left_out: tuple[str, str] | None = None
    repeated: Hashes | None = None


def group_alone(sha256: str) -> str:
    """The group of a document that is like no other."""
    return sha256[:_GROUP_DIGITS]


def group_together(source: str, document: str) -> str:
    """The group of what is said to be part of one document of a source."""
    return group_alone(hashlib.sha256(f"{source}\0{document}".encode()).hexdigest())


@dataclass(frozen=True)
class Shortened:
    """Documents that are shorter by now (repeated.py), and what they are compared by. numbers: of their entries, in
    order."""

    numbers: NDArray[np.int64]
    signatures: Signatures
    paragraphs: Paragraphs


@dataclass(frozen=True)
class Clusters:
    """documents of the near-duplicate clusters: how many clusters, documents in them, in the largest."""

    clusters: int = 0
    documents: int = 0
    largest: int = 0


@dataclass(frozen=True)
class Known:
    """Documents that are elsewhere already. by_hash: hash → id; ids, signatures: of all, where near-duplicates are
    looked for."""

    by_hash: dict[str, str]
    ids: list[str]
    signatures: Signatures


def known_of(documents: Iterable[Document], near: bool, monitor: Monitor) -> Known:
    """What documents from elsewhere are known by."""
    sketcher = Sketcher() if near else None
    by_hash: dict[str, str] = {}
    ids: list[str] = []
    for document in documents:
        monitor.safe_point()
        by_hash.setdefault(document.sha256, document.id)
        if sketcher is not None:
            compared = compared_text(document)
            sketcher.add(compared, hashed(compared))
            ids.append(document.id)
    nothing = np.empty((0, PERMUTATIONS), np.uint32)
    return Known(by_hash, ids, sketcher.signatures() if sketcher is not None else nothing)


def sort_out(
    entries: list[Entry],
    sketches: Iterable[Path],
    settings: CorpusSettings,
    monitor: Monitor,
    known: Known,
    is_old: Callable[[Entry], bool] = lambda _: False,
    shortened: Shortened | None = None,
) -> Clusters:
    """Mark duplicates and give groups; documents that have one group already keep one. sketches: files of the
    documents' (sketch.py), in their order; shortened: those that are others by now. Copies of those `known` are marked
    too. is_old: of an earlier corpus: not left out as the copy of a new document."""
    threshold = settings.near_duplicates
    first = {sha256: (KNOWN, id) for sha256, id in known.by_hash.items()}  # sha256 → reason, id
    groups: dict[str, str] = {}  # sha256 → that of the first
    same: list[tuple[str, str]] = []  # groups that have a document in common
    for entry in sorted(entries, key=lambda one: not is_old(one)):
        if entry.left_out is not None:
            continue
        if entry.sha256 in first:
            reason, original = first[entry.sha256]
            entry.left_out = (reason, f"of {original}")
            if entry.group != (group := groups.get(entry.sha256, entry.group)):
                same.append((group, entry.group))
        else:
            first[entry.sha256] = (EXACT, entry.id)
            groups[entry.sha256] = entry.group
    if same and shortened is None:
        _join(entries, same)
    if threshold is None:
        return Clusters()
    sketched = [number for number, entry in enumerate(entries) if entry.left_out is None]  # by row of the signatures
    signatures, paragraphs = _of(sketches, np.array([entry.left_out is None for entry in entries], bool))
    if shortened is not None:
        stay = np.isin(shortened.numbers, sketched)
        rows = np.searchsorted(sketched, shortened.numbers[stay])
        signatures[rows] = shortened.signatures[stay]
        paragraphs = paragraphs.replaced(rows, shortened.paragraphs.of(np.flatnonzero(stay)))
    known_rows: set[int] = set()
    for row, number, similarity in _known_copies(known.signatures, signatures, threshold, monitor):
        entries[sketched[row]].left_out = (KNOWN, _like(known.ids[number], similarity))
        known_rows.add(row)
    mine = [entries[number] for number in sketched]
    return _group(mine, signatures, known_rows, paragraphs, settings, threshold, monitor, is_old)


def _of(sketches: Iterable[Path], wanted: NDArray[np.bool_]) -> tuple[Signatures, Paragraphs]:
    """What the sketches hold of the wanted documents."""
    signatures: list[Signatures] = [np.empty((0, PERMUTATIONS), np.uint32)]
    paragraphs: list[Paragraphs] = []
    start = 0
    for sketch in sketches:
        of_all, paragraphs_of_all = compared_by(sketch)
        end = start + len(of_all)
        rows = np.flatnonzero(wanted[start:end])
        signatures.append(of_all[rows])
        paragraphs.append(paragraphs_of_all.of(rows))
        start = end
    return np.concatenate(signatures), Paragraphs.together(paragraphs)


def _like(id: str, similarity: float) -> str:
    return f"of {id}, similarity {similarity:.2f}"


def _group(
    entries: list[Entry],
    signatures: Signatures,
    known_rows: set[int],
    paragraphs: Paragraphs,
    settings: CorpusSettings,
    threshold: float,
    monitor: Monitor,
    is_old: Callable[[Entry], bool],
) -> Clusters:
    """Give every cluster one group, named by the smallest hash in it, and mark the copies where they are dropped.
    entries: of the rows of the signatures."""
    related = chain(paragraphs.related(), _of_one_group(entries))
    found = clusters(signatures, group_threshold(threshold), monitor, related)
    for cluster in found:
        group = min(entries[row].group for row in cluster)
        for row in cluster:
            entries[row].group = group
        if settings.near_duplicate_action == "drop":
            rest = [row for row in cluster if row not in known_rows]  # what is dropped itself is no original
            rest.sort(key=lambda row: not is_old(entries[row]))
            for row, original, similarity in copies(signatures, rest, threshold, monitor):
                entries[row].left_out = (NEAR, _like(entries[original].id, similarity))
    sizes = [len(cluster) for cluster in found]
    return Clusters(len(sizes), sum(sizes), max(sizes, default=0))


def _join(entries: list[Entry], same: list[tuple[str, str]]) -> None:
    """Make one group of two that are the same: two users said the same, and so all that they said goes together."""
    name: dict[str, str] = {}

    def named(group: str) -> str:
        while group in name:
            above = name[group]
            name[group] = name.get(above, above)  # or a long chain would be climbed for each of its groups
            group = above
        return group

    for pair in same:
        low, high = sorted(map(named, pair))
        if low != high:
            name[high] = low
    for entry in entries:
        entry.group = named(entry.group)


def _of_one_group(entries: list[Entry]) -> Iterator[tuple[int, int]]:
    """Pairs of rows that have one group."""
    first: dict[str, int] = {}
    for row, entry in enumerate(entries):
        if (other := first.setdefault(entry.group, row)) != row:
            yield other, row


def _known_copies(
    known: Signatures, signatures: Signatures, threshold: float, monitor: Monitor
) -> Iterator[tuple[int, int, float]]:
    """(row, row of the known document, similarity) of each row that is a copy of a known document."""
    if not len(known):
        return
    together = np.concatenate([known, signatures])
    for cluster in clusters(together, threshold, monitor):
        originals = [row for row in cluster if row < len(known)]
        for row in cluster:
            if row < len(known) or not originals:
                continue
            similarities = (together[originals] == together[row]).mean(axis=1)
            best = int(similarities.argmax())
            if similarities[best] >= threshold:
                yield row - len(known), originals[best], float(similarities[best])

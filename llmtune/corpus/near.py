"""Near-duplicates: MinHash signatures (rensa), banded locality-sensitive hashing, connected components.

Two documents are compared by the Jaccard similarity of their sets of three-word sequences (shingles), estimated from
256 minima (Broder 1997; standard error at most 0.031, 0.025 at a similarity of 0.8). Two thresholds are in use:

- from the recipe's threshold on, a document is a *copy* and may be dropped;
- from `group_threshold` on, documents share a *group*, transitively. A group stands on one side of the split, so
  the margin is what keeps copies that the estimate puts just below the threshold from leaking into the test.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.shingles import Words, mix, shingles
from llmtune.extras import need
from llmtune.monitor import Monitor

PERMUTATIONS = 256
_GROUP_MARGIN, _GROUP_AT_MOST = 0.15, 0.65
_SEED = 1  # of the hash functions: fixed, so that the same documents are copies under every recipe seed
_WORDS = 3
_BATCH_SHINGLES = 2_000_000  # shingles hashed at a time: 16 MB
_BATCH_DOCUMENTS = 4096  # the same; their signatures are Python's numbers for a moment, 10 KB a document
_WINDOW = 4096  # documents of one bucket compared all with all; larger buckets in windows of this size

Signatures = NDArray[np.uint32]  # (documents, PERMUTATIONS)


def group_threshold(threshold: float) -> float:
    """The similarity from which documents share a group, where those from `threshold` on are copies."""
    return min(threshold - _GROUP_MARGIN, _GROUP_AT_MOST)


class Sketcher:
    """Collects the signatures of documents given one by one; 1 KiB each. Raises MissingExtra."""

    def __init__(self) -> None:
        self._rensa = need("rensa", "looking for near-duplicates")
        self._pending = array("Q")
        self._offsets = [0]
        self._done: list[Signatures] = []

    def add(self, text: str, words: Words) -> None:
        """Take in the next document, of which the words are known: their sequences of three, one of all of them where
        there are fewer than three; the text itself where there are none."""
        if len(words):
            found = shingles(words.hashes, min(_WORDS, len(words)))
        else:
            found = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.uint64)
        self._pending.frombytes(found.tobytes())
        self._offsets.append(len(self._pending))
        if len(self._pending) >= _BATCH_SHINGLES or len(self._offsets) > _BATCH_DOCUMENTS:
            self._flush()

    def signatures(self) -> Signatures:
        """One row a document, in the order they were added."""
        self._flush()
        return np.concatenate(self._done) if self._done else np.empty((0, PERMUTATIONS), np.uint32)

    def _flush(self) -> None:
        if len(self._offsets) == 1:
            return
        matrix = self._rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            self._pending, self._offsets, PERMUTATIONS, _SEED
        )
        self._done.append(np.array(matrix.to_rows(), np.uint32).reshape(len(self._offsets) - 1, PERMUTATIONS))
        self._pending = array("Q")
        self._offsets = [0]


def clusters(
    signatures: Signatures, threshold: float, monitor: Monitor, related: Iterable[tuple[int, int]] = ()
) -> list[list[int]]:
    """Connected components of at least two documents whose similarity is estimated at `threshold` or more, or which
    are `related` for another reason; members ascending, clusters by their first member."""
    parents = list(range(len(signatures)))
    for one, other in related:
        one, other = _root(parents, one), _root(parents, other)
        parents[max(one, other)] = min(one, other)
    rows = rows_per_band(threshold)
    bands = PERMUTATIONS // rows
    with monitor.bar("comparing documents", bands, "bands") as bar:
        for band in range(bands):
            for bucket in _buckets(signatures[:, band * rows : (band + 1) * rows]):
                monitor.safe_point()
                for start in range(0, len(bucket), _WINDOW - 1):
                    _join_similar(signatures, bucket[start : start + _WINDOW], threshold, parents)
            bar.advance()
    members: dict[int, list[int]] = {}
    for document in range(len(signatures)):
        members.setdefault(_root(parents, document), []).append(document)
    return [cluster for cluster in members.values() if len(cluster) > 1]


def copies(
    signatures: Signatures, cluster: list[int], threshold: float, monitor: Monitor
) -> Iterator[tuple[int, int, float]]:
    """(copy, original, similarity) for each member of a cluster that has an earlier member, itself no copy, at least
    `threshold` similar to it. A mere neighbour of a neighbour is not a copy."""
    originals: list[int] = []
    for document in cluster:
        monitor.safe_point()
        similarities = _similarities(signatures, document, originals)
        best = int(similarities.argmax()) if originals else -1
        if best >= 0 and similarities[best] >= threshold:
            yield document, originals[best], float(similarities[best])
        else:
            originals.append(document)


def rows_per_band(threshold: float) -> int:
    """The most rows a band may have for a pair at `threshold` to share at least one band with probability 0.99:
    1 - (1 - s^r)^(P / r) (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2)."""
    found = 1
    for rows in range(1, 33):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= 0.99:
            found = rows
    return found


def _buckets(band: Signatures) -> Iterator[list[int]]:
    """Groups of at least two documents whose rows of this band are equal."""
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + column)
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    edges = [0, *borders.tolist(), len(order)]
    for start, end in pairwise(edges):
        if end - start > 1:
            yield order[start:end].tolist()


def _join_similar(signatures: Signatures, bucket: list[int], threshold: float, parents: list[int]) -> None:
    """Join the components of all similar pairs in a bucket; pairs already joined are not compared again."""
    for place, document in enumerate(bucket):
        own = _root(parents, document)
        others = [other for other in bucket[place + 1 :] if _root(parents, other) != own]
        similar = _similarities(signatures, document, others) >= threshold
        for other, joins in zip(others, similar, strict=True):
            if joins:
                parents[max(own, _root(parents, other))] = own = min(own, _root(parents, other))


def _similarities(signatures: Signatures, document: int, others: Iterable[int]) -> NDArray[np.float64]:
    chosen = signatures[np.fromiter(others, np.int64)]
    return (chosen == signatures[document]).mean(axis=1) if len(chosen) else np.empty(0)


def _root(parents: list[int], document: int) -> int:
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document

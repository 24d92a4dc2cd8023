"""How far annotators agree: Cohen's kappa of each two, Krippendorff's alpha of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from llmtune.annotate.labels import Labels
from llmtune.extras import need

Votes = Mapping[str, Mapping[str, str]]  # label by annotator, by id


@dataclass(frozen=True)
class Pair:
    """Two annotators. shared: ids both labelled; same: the share with the same label; kappa: None where it is not
    defined (both gave all the same label)."""

    first: str
    second: str
    shared: int
    same: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """Of a set of labels. shared: ids that two or more labelled; same: of all pairs of labels for one id, the share
    that are equal; alpha: None where it is not defined (no id has two labels, or all labels are the same); disputed:
    ids with different labels."""

    items: int
    shared: int
    annotators: dict[str, int]
    same: float | None
    pairs: list[Pair]
    alpha: float | None
    disputed: list[str]


def agreement_of(labels: Labels) -> Agreement:
    """Agreement of the annotators of a set of labels."""
    counts = {name: sum(name in votes for votes in labels.votes.values()) for name in labels.annotators}
    pairs = [
        pair for two in combinations(labels.annotators, 2) if (pair := _pair(labels.votes, labels.names, *two)).shared
    ]
    compared = sum(pair.shared for pair in pairs)
    return Agreement(
        items=len(labels.votes),
        shared=sum(len(votes) > 1 for votes in labels.votes.values()),
        annotators=counts,
        same=sum(pair.shared * pair.same for pair in pairs) / compared if compared else None,
        pairs=pairs,
        alpha=krippendorff_alpha(labels.votes, labels.names),
        disputed=[id for id, votes in labels.votes.items() if len(set(votes.values())) > 1],
    )


def krippendorff_alpha(votes: Votes, names: Sequence[str]) -> float | None:
    """Krippendorff's alpha for nominal labels, any number of annotators, missing ones allowed; None where it is not
    defined. From the matrix of coincidences (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability")."""
    place = {name: index for index, name in enumerate(names)}
    coincidences = np.zeros((len(names), len(names)))
    for of_item in votes.values():
        if len(of_item) > 1:
            counts = np.bincount([place[label] for label in of_item.values()], minlength=len(names))
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(of_item) - 1)
    totals = coincidences.sum(axis=0)
    values = totals.sum()
    expected = values**2 - (totals**2).sum()  # n(n - 1) times the share of unlike pairs expected by chance
    if expected == 0:
        return None
    return float(1 - (values - 1) * (values - np.trace(coincidences)) / expected)


def confusion(votes: Votes, names: Sequence[str], first: str, second: str) -> np.ndarray:
    """(labels, labels): how often `first` gave the row's label and `second` the column's to the same id."""
    place = {name: index for index, name in enumerate(names)}
    table = np.zeros((len(names), len(names)), np.int64)
    for of_item in votes.values():
        if first in of_item and second in of_item:
            table[place[of_item[first]], place[of_item[second]]] += 1
    return table


def _pair(votes: Votes, names: Sequence[str], first: str, second: str) -> Pair:
    both = [(one[first], one[second]) for one in votes.values() if first in one and second in one]
    if not both:
        return Pair(first, second, 0, 0.0, None)
    metrics = need("sklearn.metrics", "Cohen's kappa")
    same = sum(one == other for one, other in both) / len(both)
    # Of one label throughout kappa is 0/0, for which the library warns and gives NaN.
    kappa = metrics.cohen_kappa_score(*zip(*both, strict=True)) if len({*chain.from_iterable(both)}) > 1 else math.nan
    return Pair(first, second, len(both), same, None if math.isnan(kappa) else float(kappa))

"""One label out of several annotators': the majority's, or by Dawid and Skene's model of who errs how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmtune.annotate.labels import Labels
from llmtune.annotate.records import write_records

Method = Literal["dawid-skene", "majority"]
# Labels that count, for each annotator and true label, as if they had been seen with everybody's mean accuracy. With
# none, a hundred documents are too few to tell chance from a habit (docs/annotate.md).
PRIOR = 4.0
_TINY = 1e-10  # keeps the logarithm of what was never seen finite
_ROUNDS = 2000
_STILL = 1e-7  # no probability moves by more: done


@dataclass(frozen=True)
class Merged:
    """What several annotators' labels of one id come to. tie: no single label has most votes."""

    label: str
    probabilities: dict[str, float]
    tie: bool


@dataclass(frozen=True)
class Result:
    """merged: by id; accuracy: by annotator, how often they are right as far as the method can tell."""

    merged: dict[str, Merged]
    accuracy: dict[str, float]


def merge(labels: Labels, method: Method) -> Result:
    """One label an id. Where probabilities are equal, the label that is more frequent in all, then by name."""
    ids, people, names = list(labels.votes), labels.annotators, labels.names
    place = {name: index for index, name in enumerate(names)}
    votes = np.full((len(ids), len(people)), -1)
    for row, id in enumerate(ids):
        for column, person in enumerate(people):
            if person in labels.votes[id]:
                votes[row, column] = place[labels.votes[id][person]]
    probabilities = dawid_skene(votes, len(names)) if method == "dawid-skene" else shares_of(votes, len(names))
    frequency = Counter(label for of_item in labels.votes.values() for label in of_item.values())
    merged: dict[str, Merged] = {}
    for id, row in zip(ids, probabilities, strict=True):
        of_label = {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        best = min(names, key=lambda name: (-of_label[name], -frequency[name], name))
        most = Counter(labels.votes[id].values()).most_common(2)
        merged[id] = Merged(best, of_label, len(most) > 1 and most[0][1] == most[1][1])
    given = votes >= 0
    right = np.where(given, np.take_along_axis(probabilities, np.maximum(votes, 0), axis=1), 0).sum(axis=0)
    return Result(merged, dict(zip(people, (right / given.sum(axis=0)).tolist(), strict=True)))


def shares_of(votes: NDArray[np.int64], labels: int) -> NDArray[np.float64]:
    """(items, labels): shares of the votes. votes: (items, annotators) numbers of labels, -1 where there is none."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1)
    return counts / counts.sum(axis=1, keepdims=True)


def dawid_skene(votes: NDArray[np.int64], labels: int, prior: float = PRIOR) -> NDArray[np.float64]:
    """(items, labels): the probability of each label, by Dawid and Skene's EM (1979), begun from the shares of the
    votes: every annotator has a table of how often they say what when what is true.

    votes: as in `shares_of`. prior: the weight of everybody's mean accuracy in each row of each table; 0 is the
    method as published.
    """
    said = np.stack([votes == label for label in range(labels)], axis=2).astype(np.float64)  # items, annotators, said
    probabilities = shares_of(votes, labels)
    for _ in range(_ROUNDS):
        tables = np.einsum("nt,nas->ats", probabilities, said)  # annotators, true, said
        right = np.einsum("att->", tables) / tables.sum()
        mean = np.full((labels, labels), (1 - right) / max(1, labels - 1))
        np.fill_diagonal(mean, right)
        tables += prior * mean
        tables /= np.maximum(tables.sum(axis=2, keepdims=True), _TINY)
        likelihood = np.einsum("nas,ats->nt", said, np.log(np.maximum(tables, _TINY)))
        likelihood += np.log(np.maximum(probabilities.mean(axis=0), _TINY))
        new = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        new /= new.sum(axis=1, keepdims=True)
        moved = float(np.abs(new - probabilities).max())
        probabilities = new
        if moved < _STILL:
            break
    return probabilities


def write_merged(path: Path, labels: Labels, result: Result) -> None:
    """Write a new `.jsonl` or `.csv` file, which the other commands read as the labels of one annotator."""
    columns = ["id", "text", "label", "probability", "tie", "group", "probabilities", "votes"]
    records = [
        (
            id,
            labels.texts.get(id),
            one.label,
            one.probabilities[one.label],
            one.tie,
            labels.groups.get(id),
            one.probabilities,
            labels.votes[id],
        )
        for id, one in result.merged.items()
    ]
    write_records(path, columns, records)

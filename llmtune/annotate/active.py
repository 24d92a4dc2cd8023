"""What to label next: documents that a classifier of the labels so far is unsure about, and unlike each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmtune.annotate.classifier import classifier, features
from llmtune.annotate.labels import Labels, note_ids
from llmtune.annotate.tasks import Task, is_beginning, places_of, shuffled, split_in, tasks_of
from llmtune.corpus.store import SPLITS
from llmtune.errors import LlmtuneError
from llmtune.extras import need

By = Literal["margin", "entropy"]
_CANDIDATES = 10  # uncertain documents for each one chosen
_DIMENSIONS = 50  # in which they are clustered
_ALL = 10**9  # characters
_FOR = "choosing what to label next"


def choose_next(
    corpus: Path,
    labels: Labels,
    *,
    number: int,
    split: str,
    by: By,
    pool: int,
    most_characters: int,
    seed: int,
) -> list[Task]:
    """`number` documents of a split to label next, fewer if it has no more: none that is labelled or shares a group
    with one that is, one of each group. Of `pool` (`number`, if that is more) drawn by chance, the `_CANDIDATES` times
    `number` that the classifier is least sure about are clustered by k-means, weighted by how unsure it is, and the one
    nearest to each centre is taken (Zhdanov 2019, "Diverse mini-batch active learning"). Adds to `labels.notes` which
    labelled documents the corpus does not have, or has with another text.

    by: `margin`, the difference of the two largest probabilities; or `entropy` of all
    """
    given = labels.single()
    split_in(corpus, split)
    places = {name: list(places_of(corpus, name)) for name in SPLITS if (corpus / name).is_dir()}
    texts = _texts(corpus, list(places), labels)
    names = sorted({given[id] for id in texts})
    if len(names) < 2:
        raise LlmtuneError(
            f"all labels are '{names[0]}': there is nothing to tell apart"
            if names
            else "no labelled document has a text",
            fix="label documents of two labels at least",
        )
    labelled_groups = {place.group for of_split in places.values() for place in of_split if place.id in given}
    free = [place for place in places[split] if place.id not in given and place.group not in labelled_groups]
    if not free:
        raise LlmtuneError(f"every group of documents in '{split}' has a label already", where=str(corpus))
    groups = len({place.group for place in free})
    # One of each group at most: the first of each stand before the second of any.
    ids = shuffled(free, seed)[: min(max(pool, number), groups)]
    tasks = tasks_of(corpus, [split], ids, most_characters)
    of_texts = features([*texts.values(), *(task.text for task in tasks)])
    model = classifier().fit(of_texts[: len(texts)], [given[id] for id in texts])
    unsure = uncertainty(model.predict_proba(of_texts[len(texts) :]), by)
    return [tasks[place] for place in diverse(of_texts[len(texts) :], unsure, number, seed)]


def uncertainty(probabilities: NDArray[np.float64], by: By) -> NDArray[np.float64]:
    """(texts,): from 0, sure, to 1. probabilities: (texts, labels)."""
    if by == "margin":
        two = np.sort(probabilities, axis=1)[:, -2:]
        return 1 - (two[:, 1] - two[:, 0])
    logarithms = np.log(np.maximum(probabilities, 1e-12))
    return -(probabilities * logarithms).sum(axis=1) / np.log(probabilities.shape[1])


def diverse(of_texts: Any, unsure: NDArray[np.float64], number: int, seed: int) -> list[int]:
    """Rows of `number` uncertain texts that are unlike each other, the most uncertain first."""
    order = np.argsort(-unsure, kind="stable")
    if len(order) <= number:
        return order.tolist()
    candidates = order[: _CANDIDATES * number]
    rows = of_texts[candidates]
    dimensions = min(_DIMENSIONS, rows.shape[1] - 1, len(candidates) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts that are all equal, fewer different ones than clusters
        if dimensions > 1:
            rows = need("sklearn.decomposition", _FOR).TruncatedSVD(dimensions, random_state=seed).fit_transform(rows)
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        means = need("sklearn.cluster", _FOR).KMeans(number, n_init=3, random_state=seed)
        means.fit(rows, sample_weight=unsure[candidates] + 1e-6)
    distances = means.transform(rows)
    chosen: list[int] = []
    for cluster in range(number):
        members = np.flatnonzero(means.labels_ == cluster)
        if len(members):
            chosen.append(int(members[distances[members, cluster].argmin()]))
    # Fewer clusters than asked for, where texts are equal: the most uncertain of the others.
    chosen += [place for place in range(len(candidates)) if place not in set(chosen)][: number - len(chosen)]
    return candidates[sorted(chosen)].tolist()


def _texts(corpus: Path, splits: Sequence[str], labels: Labels) -> dict[str, str]:
    """The text of each labelled id: of the file, else of the corpus. Raises if the corpus has none of the ids."""
    in_corpus = {task.id: task.text for task in tasks_of(corpus, splits, list(labels.votes), _ALL)}
    if not in_corpus:
        raise LlmtuneError(
            "has none of the labelled documents", where=str(corpus), fix="name the corpus that they were exported from"
        )
    if strange := [id for id in labels.votes if id not in in_corpus]:
        note_ids(labels, f"{len(strange)} labelled documents are not in the corpus", strange)
    other = [id for id, text in labels.texts.items() if id in in_corpus and not is_beginning(text, in_corpus[id])]
    if other:
        note_ids(labels, f"{len(other)} labelled documents have another text in the corpus", other)
    texts = {id: labels.texts.get(id, in_corpus.get(id)) for id in labels.votes}
    return {id: text for id, text in texts.items() if text is not None}

"""Labels that are likely wrong, by confident learning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmtune.annotate.classifier import FOLDS, features, out_of_fold
from llmtune.annotate.labels import Labels, note_ids
from llmtune.annotate.records import write_records
from llmtune.annotate.tasks import text_hash
from llmtune.errors import LlmtuneError
from llmtune.extras import need


@dataclass(frozen=True)
class Suspect:
    """A label that is likely wrong. probability: of the label suggested; of_label: of the label given."""

    id: str
    text: str
    label: str
    suggested: str
    probability: float
    of_label: float


def find_suspects(labels: Labels, seed: int) -> list[Suspect]:
    """The labels of one annotator that are likely wrong, the likeliest first: confident learning (Northcutt, Jiang and
    Chuang 2021; cleanlab) on the probabilities of classifiers that did not see the text. Adds to `labels.notes` which
    labels are too rare to be judged.

    Raises LlmtuneError if fewer than two labels can be judged, or there is no text."""
    confident_learning = need("cleanlab.filter", "finding label errors")
    given = {id: label for id, label in labels.single().items() if id in labels.texts}
    if not given:
        raise LlmtuneError("the labelled rows hold no text", fix="keep the column `text`")
    if bare := [id for id in labels.votes if id not in given]:
        note_ids(labels, f"{len(bare)} labelled rows have no text and are not judged", bare)
    group = _groups(labels, list(given))
    groups_of: dict[str, set[str]] = defaultdict(set)
    for id, label in given.items():
        groups_of[label].add(group[id])
    names = [name for name in labels.names if len(groups_of[name]) >= FOLDS]
    if rare := [name for name in labels.names if 0 < len(groups_of[name]) < FOLDS]:
        labels.notes.append(f"too rare to be judged, with fewer than {FOLDS} different documents: {', '.join(rare)}")
    if len(names) < 2:
        raise LlmtuneError(
            f"{len(names)} labels have the {FOLDS} different documents that it takes to judge them",
            fix="label more documents, of two labels at least",
        )
    ids = [id for id, label in given.items() if label in names]
    numbers = np.array([names.index(given[id]) for id in ids])
    of_texts = features([labels.texts[id] for id in ids])
    probabilities = out_of_fold(of_texts, numbers, [group[id] for id in ids], seed)
    found = confident_learning.find_label_issues(
        numbers, probabilities, filter_by="prune_by_class", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    suspects = []
    for index in found:
        row = probabilities[index].copy()
        of_label = float(row[numbers[index]])
        row[numbers[index]] = -1
        best = int(row.argmax())
        id = ids[index]
        suspects.append(Suspect(id, labels.texts[id], given[id], names[best], float(row[best]), of_label))
    return suspects


def _groups(labels: Labels, ids: Sequence[str]) -> dict[str, str]:
    """The group of each id. Ids share one where `labels` says so, where their texts are the same, and where others
    link them so: a corpus of several sources may have one text in two groups."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while (higher := above.setdefault(name, name)) != name:
            above[name] = above[higher]  # halves the way for the next
            name = higher
        return name

    names = {}
    for id in ids:
        of_text = text_hash(labels.texts[id])
        names[id] = labels.groups.get(id, of_text)
        above[top(of_text)] = top(names[id])
    return {id: top(name) for id, name in names.items()}


def write_suspects(path: Path, suspects: list[Suspect]) -> None:
    """Write a new `.csv` or `.jsonl` file, most suspect first."""
    columns = ["id", "text", "label", "suggested", "probability", "probability_of_label"]
    rows = [(s.id, s.text, s.label, s.suggested, round(s.probability, 6), round(s.of_label, 6)) for s in suspects]
    write_records(path, columns, rows)

"""What to label next: uncertain, unlike each other, and nothing that is labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtune.annotate.active import choose_next, diverse, uncertainty
from llmtune.annotate.classifier import features
from llmtune.annotate.labels import Labels
from llmtune.annotate.tasks import CUT
from llmtune.corpus.store import Document, write_split
from llmtune.errors import LlmtuneError
from tests.annotate.documentation import docstrings

ASKED: dict[str, Any] = {"number": 8, "split": "train", "by": "margin", "pool": 1000, "most_characters": 300, "seed": 0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docstrings of two families, `network/0` and so on; every fifth has a copy in its group."""
    folder = tmp_path_factory.mktemp("corpus")
    documents = []
    for family in ("network", "numbers"):
        for number, text in enumerate([text for of, text in docstrings() if of == family][:40]):
            for copy in range(2 if number % 5 == 0 else 1):
                id, group = f"{family}/{number}" + "~" * copy, f"{family} {number}"
                documents.append(Document(id, text + "." * copy, None, "s", None, "", group))
    write_split(folder, "train", documents)
    write_split(folder, "valid", [Document("other", "A text.", None, "s", None, "", "other")])
    return folder


def labels_of(*ids: str) -> Labels:
    return Labels(["network", "numbers"], {id: {"anna": id.split("/")[0]} for id in ids})


LABELLED = [f"{family}/{number}" for family in ("network", "numbers") for number in range(15)]


def test_what_is_chosen(corpus: Path) -> None:
    labels = labels_of(*LABELLED)
    tasks = choose_next(corpus, labels, **ASKED)
    assert len({task.group for task in tasks}) == len(tasks) == 8
    assert not {task.group for task in tasks} & {id.replace("/", " ") for id in LABELLED}
    assert any(task.text.endswith(CUT) for task in tasks)
    assert labels.notes == []
    assert choose_next(corpus, labels, **ASKED) == tasks
    for changes in ({"seed": 1}, {"pool": 12}):
        assert choose_next(corpus, labels, **{**ASKED, **changes}) != tasks
    assert [task.id for task in choose_next(corpus, labels, **{**ASKED, "split": "valid"})] == ["other"]
    assert len(choose_next(corpus, labels, **{**ASKED, "number": 20, "pool": 5})) == 20
    assert len(choose_next(corpus, labels, **{**ASKED, "number": 500})) == 50  # one of each group without a label


def test_texts_of_the_file_count_and_differences_are_told(corpus: Path) -> None:
    labels = labels_of(*LABELLED, "gone/1", "gone/2")
    labels.texts["network/0"] = "Another text."
    choose_next(corpus, labels, **ASKED)
    assert labels.notes == [
        "2 labelled documents are not in the corpus: gone/1, gone/2",
        "1 labelled documents have another text in the corpus: network/0",
    ]


@pytest.mark.parametrize(
    ("ids", "changes", "message"),
    [
        (["network/0", "network/1"], {}, "all labels are 'network'"),
        (["gone/1"], {}, "has none of the labelled documents"),
        (LABELLED, {"split": "test"}, "there is no 'test'"),
        ([*LABELLED, "other"], {"split": "valid"}, "every group of documents in 'valid' has a label already"),
    ],
)
def test_what_is_refused(corpus: Path, ids: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LlmtuneError, match=message):
        choose_next(corpus, labels_of(*ids), **{**ASKED, **changes})


def test_uncertainty() -> None:
    probabilities = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [0.6, 0.2, 0.2]])
    assert uncertainty(probabilities, "margin") == pytest.approx([0, 1, 1, 0.6])
    assert uncertainty(probabilities, "entropy") == pytest.approx([0, 1, 0.6309298, 0.8649735])


def test_copies_take_one_place() -> None:
    """Thirty near-copies that are the least sure, and nine other texts: one of the copies is chosen, not ten."""
    first, *others = [text for _, text in docstrings()[::60]][:10]
    texts = [f"{first} word{number}" for number in range(30)] + others
    unsure = np.array([0.9] * 30 + [0.8] * 9)
    chosen = diverse(features(texts), unsure, 10, seed=0)
    assert len(set(chosen)) == 10
    assert sum(place < 30 for place in chosen) <= 2
    assert chosen == sorted(chosen, key=lambda place: -unsure[place])


def test_equal_texts_are_not_fewer_than_asked_for() -> None:
    assert len(set(diverse(features(["One text."] * 20), np.linspace(0, 1, 20), 5, seed=0))) == 5

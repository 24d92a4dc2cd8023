"""One label out of several: Dawid and Skene's model against crowd-kit's and against known truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llmtune.annotate import merge as module
from llmtune.annotate.labels import Labels, read_labels
from llmtune.annotate.merge import dawid_skene, merge, shares_of, write_merged
from llmtune.errors import LlmtuneError


def drawn(
    accuracies: tuple[float, ...], items: int, labels: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True labels and (items, annotators) votes, wrong ones drawn evenly."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, labels, items)
    votes = [
        np.where(draw.random(items) < one, true, (true + draw.integers(1, labels, items)) % labels)
        for one in accuracies
    ]
    return true, np.stack(votes, axis=1)


def right(accuracies: tuple[float, ...], labels: int, items: int = 300, trials: int = 20) -> tuple[float, float]:
    """Share of right labels by Dawid and Skene and by majority (ties broken by chance), over several draws."""
    both = []
    for seed in range(trials):
        true, votes = drawn(accuracies, items, labels, seed)
        broken = shares_of(votes, labels) + np.random.default_rng(seed).random((items, labels)) / 100
        both.append([(of.argmax(axis=1) == true).mean() for of in (dawid_skene(votes, labels), broken)])
    weighed, counted = np.mean(both, axis=0)
    return float(weighed), float(counted)


@pytest.mark.parametrize("rounds", [1, 30])
def test_the_same_as_crowd_kit_without_the_prior(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """Round for round: crowd-kit has another rule for when to stop."""
    import pandas
    from crowdkit import aggregation

    monkeypatch.setattr(module, "_ROUNDS", rounds)
    _, votes = drawn((0.9, 0.75, 0.6, 0.8), 60, 3, seed=4)
    votes[np.random.default_rng(5).random(votes.shape) < 0.2] = -1
    votes = votes[(votes >= 0).any(axis=1)]
    table = pandas.DataFrame(
        [(item, who, label) for item, row in enumerate(votes) for who, label in enumerate(row) if label >= 0],
        columns=["task", "worker", "label"],
    )
    theirs = aggregation.DawidSkene(n_iter=rounds, tol=-1).fit_predict_proba(table)
    assert np.abs(dawid_skene(votes, 3, prior=0) - theirs.sort_index()[[0, 1, 2]].to_numpy()).max() < 1e-6


@pytest.mark.parametrize("labels", [2, 3])
def test_annotators_of_differing_quality(labels: int) -> None:
    """Mean accuracy 80 %: whom to believe is learnt from the votes alone."""
    weighed, counted = right((0.95, 0.8, 0.65), labels)
    assert weighed > counted + 0.01


def test_annotators_of_equal_quality_with_habits() -> None:
    """All three are right in 80 %, and mistake each label for one other, not all for the same: that can be learnt."""
    both = []
    for seed in range(10):
        draw = np.random.default_rng(seed)
        true = draw.integers(0, 3, 300)
        said = [np.where(draw.random(300) < 0.8, true, (true + 1 + who % 2) % 3) for who in range(3)]
        votes = np.stack(said, axis=1)
        broken = shares_of(votes, 3) + draw.random((300, 3)) / 100
        both.append([(of.argmax(axis=1) == true).mean() for of in (dawid_skene(votes, 3), broken)])
    weighed, counted = np.mean(both, axis=0)
    assert weighed > counted + 0.03


@pytest.mark.parametrize("labels", [2, 3])
def test_annotators_of_equal_quality(labels: int) -> None:
    """Then nobody is to be believed more, and the majority is the best there is; the model must not be worse."""
    weighed, counted = right((0.8, 0.8, 0.8), labels)
    assert weighed > counted - 0.005


def labels_of(votes: NDArray[np.int64]) -> Labels:
    names = ["ham", "spam"]
    said = {f"item {n}": {f"p{who}": names[one] for who, one in enumerate(row)} for n, row in enumerate(votes)}
    return Labels(names, said, {id: f"text of {id}" for id in said}, dict.fromkeys(said, "g"))


def test_accuracies_are_estimated() -> None:
    true, votes = drawn((0.95, 0.8, 0.65), 1500, 2, seed=1)
    result = merge(labels_of(votes), "dawid-skene")
    for who, accuracy in enumerate((votes == true[:, None]).mean(axis=0)):
        assert result.accuracy[f"p{who}"] == pytest.approx(accuracy, abs=0.05)


def test_ties_of_the_majority_are_told() -> None:
    votes = {"a": {"x": "spam", "y": "spam"}, "b": {"x": "spam", "y": "ham"}, "c": {"z": "ham"}}
    result = merge(Labels(["ham", "spam"], votes), "majority")
    assert [(id, one.label, one.tie) for id, one in result.merged.items()] == [
        ("a", "spam", False),
        ("b", "spam", True),  # the more frequent one
        ("c", "ham", False),
    ]
    assert result.merged["b"].probabilities == {"ham": 0.5, "spam": 0.5}
    assert result.accuracy == {"x": 0.75, "y": 0.75, "z": 1.0}


def test_most_of_the_votes_need_not_be_half_of_them() -> None:
    votes = {"a": dict(zip("vwxyz", ("spam", "spam", "ham", "eggs", "tea"), strict=True))}
    assert not merge(Labels(["eggs", "ham", "spam", "tea"], votes), "majority").merged["a"].tie


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_written_and_read_again(tmp_path: Path, suffix: str) -> None:
    labels = labels_of(drawn((0.9, 0.8, 0.7), 20, 2, seed=2)[1])
    result = merge(labels, "dawid-skene")
    write_merged(tmp_path / f"merged.{suffix}", labels, result)
    again = read_labels([tmp_path / f"merged.{suffix}"])
    assert again.single() == {id: one.label for id, one in result.merged.items()}
    assert (again.texts, again.groups) == (labels.texts, labels.groups)
    with pytest.raises(LlmtuneError, match="is there already"):
        write_merged(tmp_path / f"merged.{suffix}", labels, result)
    if suffix == "jsonl":
        first = json.loads((tmp_path / "merged.jsonl").read_text().split("\n")[0])
        assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert first["votes"] == labels.votes["item 0"]


def test_another_kind_of_file(tmp_path: Path) -> None:
    labels = labels_of(drawn((0.9,), 3, 2, seed=2)[1])
    with pytest.raises(LlmtuneError, match=r"neither in .jsonl nor in .csv"):
        write_merged(tmp_path / "merged.xlsx", labels, merge(labels, "majority"))


def test_a_file_below_a_file(tmp_path: Path) -> None:
    labels = labels_of(drawn((0.9,), 3, 2, seed=2)[1])
    (tmp_path / "file").touch()
    for name in ("file/merged.csv", "file/folder/merged.csv"):
        with pytest.raises(LlmtuneError, match=r"can't be made: .*/file is no folder") as raised:
            write_merged(tmp_path / name, labels, merge(labels, "majority"))
        assert raised.value.where == str(tmp_path / name)

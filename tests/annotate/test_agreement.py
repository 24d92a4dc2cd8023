"""Agreement figures equal those worked out by hand in the literature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.annotate.agreement import agreement_of, confusion, krippendorff_alpha
from llmtune.annotate.labels import Labels


def labels_of(**said: str) -> Labels:
    """Each annotator's labels in order, one character an item; `.` where there is none."""
    length = len(next(iter(said.values())))
    votes = {
        f"item {place}": {name: line[place] for name, line in said.items() if line[place] != "."}
        for place in range(length)
    }
    votes = {id: of_item for id, of_item in votes.items() if of_item}
    return Labels(sorted({label for of_item in votes.values() for label in of_item.values()}), votes)


@pytest.mark.parametrize(
    ("said", "alpha"),
    [  # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sections A, B and C
        ({"meg": "0100000010", "owen": "1110010000"}, 0.095),
        ({"ben": "aabbdcccedda", "gerry": "babbbccceddd"}, 0.692),
        ({"a": "123321412...", "b": "1233224125.3", "c": ".3332342251.", "d": "12332441251."}, 0.743),
    ],
)
def test_alpha_of_the_paper(said: dict[str, str], alpha: float) -> None:
    assert agreement_of(labels_of(**said)).alpha == pytest.approx(alpha, abs=5e-4)


def test_two_annotators_by_hand() -> None:
    """Fifty items, 20 yes by both, 15 no by both, 5 and 10 disputed: kappa (0.7 - 0.5) / (1 - 0.5)."""
    labels = labels_of(anna="y" * 20 + "y" * 5 + "n" * 10 + "n" * 15, ben="y" * 20 + "n" * 5 + "y" * 10 + "n" * 15)
    found = agreement_of(labels)
    (pair,) = found.pairs
    assert (pair.shared, found.items, found.shared) == (50, 50, 50)
    assert pair.same == found.same == pytest.approx(0.7)
    assert pair.kappa == pytest.approx(0.4)
    assert len(found.disputed) == 15
    assert confusion(labels.votes, labels.names, "anna", "ben").tolist() == [[15, 10], [5, 20]]


def test_three_annotators_of_parts() -> None:
    found = agreement_of(labels_of(anna="xxyy..", ben="xyy.x.", cleo="....xy"))
    assert found.annotators == {"anna": 4, "ben": 4, "cleo": 2}
    assert (found.items, found.shared, found.disputed) == (6, 4, ["item 1"])
    assert [(one.first, one.second, one.shared) for one in found.pairs] == [("anna", "ben", 3), ("ben", "cleo", 1)]
    assert found.same == pytest.approx(3 / 4)


def test_what_is_not_defined() -> None:
    alike = agreement_of(labels_of(anna="xxx", ben="xxx"))
    assert (alike.same, alike.pairs[0].kappa, alike.alpha) == (1.0, None, None)
    apart = agreement_of(labels_of(anna="xy..", ben="..xy"))
    assert (apart.same, apart.pairs, apart.alpha) == (None, [], None)


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=2, max_size=2), min_size=2, max_size=30))
def test_alpha_of_two_without_gaps_is_scotts_pi_for_small_samples(said: list[list[str]]) -> None:
    """Krippendorff 2011: with n values, alpha = 1 - (1 - pi)(n - 1) / n."""
    votes = {str(place): {"a": one, "b": other} for place, (one, other) in enumerate(said)}
    alpha = krippendorff_alpha(votes, "xyz")
    values = [label for pair in said for label in pair]
    by_chance = sum((values.count(label) / len(values)) ** 2 for label in "xyz")
    if by_chance == 1:
        assert alpha is None
    else:
        observed = sum(one == other for one, other in said) / len(said)
        pi = (observed - by_chance) / (1 - by_chance)
        assert alpha == pytest.approx(1 - (1 - pi) * (len(values) - 1) / len(values))

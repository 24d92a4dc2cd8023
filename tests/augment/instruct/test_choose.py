"""Which pairs all documents together leave, on sheets written by hand; and near-copies, against a comparison of all
with all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.instruct import gate
from llmtune.augment.instruct.choose import Choice
from llmtune.augment.instruct.copies import near_copies
from llmtune.augment.instruct.draft import Draft
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.sheet import Judged, Sheet

SAME = "Every row has a number that it keeps for as long as it lives."


def sheet(name: str, *answers: str) -> Sheet:
    judged = (Judged(Draft("headings", f"{name} {place}?", answer, ""), None) for place, answer in enumerate(answers))
    return Sheet(name, "docs", None, name, 1.0, True, tuple(judged))


def reasons(settings: dict[str, Any], seed: int = 3, **splits: list[Sheet]) -> dict[str, list[list[str | None]]]:
    """Of each split and document; an epoch reads 1,000 characters beside the pairs."""
    changed = InstructSettings.model_validate(settings)
    choice = Choice(changed, lambda split: splits.get(split, []), lambda one: len(one.draft.answer), 1000, seed)
    return {split: [[one.reason for one in judged] for _, judged in choice.judged(split)] for split in splits}


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_that_its_document_has_no_room_for_is_given_by_the_next(seed: int) -> None:
    others = [f"The {word} is kept in a file of its own." for word in ("alpha", "beta", "gamma", "delta")]
    train = [sheet("a", SAME, *others), sheet("b", SAME)]
    first, second = reasons({"pairs_per_document": 2}, seed, train=train)["train"]
    assert first.count(None) == 2
    assert (first[0], second) in [(None, [gate.SAID]), (gate.MORE, [None])]


@pytest.mark.parametrize(("share", "expected"), [(0.5, (None, gate.SAID)), (0.001, (gate.SHARE, None))])
def test_an_answer_that_the_share_leaves_out_may_be_held_out(share: float, expected: tuple[str | None, ...]) -> None:
    found = reasons({"share": share}, train=[sheet("a", SAME)], valid=[sheet("b", SAME)])
    assert (found["train"][0][0], found["valid"][0][0]) == expected


def test_what_is_held_out_is_no_near_copy_of_what_is_trained_on() -> None:
    """Of twelve words one or two are others: 11 of 13, or 10 of 14. Near-copies within train stay."""
    near = SAME.replace("row", "line")
    train = [sheet("a", SAME), sheet("b", SAME.replace("row", "page"))]
    found = reasons({}, train=train, valid=[sheet("c", near, near.replace("number", "name"))], test=[sheet("d", near)])
    assert found == {"train": [[None], [None]], "valid": [[gate.NEAR, None]], "test": [[gate.NEAR]]}


words = st.lists(st.sampled_from(list("abcdefghijklmnop")), max_size=14).map(" ".join)


@given(st.lists(words, max_size=8), st.lists(words, max_size=8))
def test_near_copies(answers: list[str], others: list[str]) -> None:
    def similarity(one: str, other: str) -> float:
        first, second = set(re.findall(r"\w+", one)), set(re.findall(r"\w+", other))
        return len(first & second) / len(first | second) if first or second else 0.0

    keyed = [(str(place).encode(), answer) for place, answer in enumerate(answers)]
    expected = {key for key, answer in keyed if any(similarity(answer, other) >= 0.8 for other in others)}
    assert near_copies(keyed, others) == expected

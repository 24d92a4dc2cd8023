"""Which stages a selection means."""

from __future__ import annotations

import pytest

from llmtune.run.selection import Selection

IDS = ["base", "corpus", "base.evaluate", "train", "train.evaluate", "distill.teacher", "distill", "distill.evaluate",
       "base.answers", "distill.answers"]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(only="train"), {"train", "train.evaluate"}),
        (Selection(only="distill"), {"distill.teacher", "distill", "distill.evaluate"}),
        (Selection(first="distill"), {"distill.teacher", *IDS[6:]}),
        (Selection(last="train"), set(IDS[:5])),
        (Selection(last="corpus"), {"base", "corpus", "base.evaluate"}),
    ],
)
def test_what_belongs_to_a_stage_goes_with_it(selection: Selection, expected: set[str]) -> None:
    assert selection.ids(IDS) == expected

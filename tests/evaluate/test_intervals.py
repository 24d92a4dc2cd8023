"""Intervals against values worked by hand."""

from __future__ import annotations

import pytest

from llmtune.evaluate.intervals import paired_difference, wilson


def test_wilson_by_hand() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, 15 of 148 gives 0.0624 to 0.1605."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_paired_difference() -> None:
    first = [False] * 60 + [True] * 40
    better = [False] * 40 + [True] * 60
    difference, low, high = paired_difference(first, better)
    assert difference == pytest.approx(0.2)
    assert 0.11 < low < 0.14 < 0.26 < high < 0.29  # 0.2 ± 1.96 · sqrt(0.2 · 0.8 / 100) = 0.122 … 0.278
    assert paired_difference(better, first)[0] == pytest.approx(-0.2)
    assert paired_difference(first, first) == (0.0, 0.0, 0.0)
    assert paired_difference(first, better) == (difference, low, high)


def test_paired_difference_needs_the_same_questions() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([True] * 3, [True] * 2)
    with pytest.raises(ValueError, match="0 and 0"):
        paired_difference([], [])

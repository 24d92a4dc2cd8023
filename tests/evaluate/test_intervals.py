"""Intervals against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from llmtune.evaluate.intervals import paired_ratio, sign_test, wilson


def test_wilson_by_hand() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, 15 of 148 gives 0.0624 to 0.1605."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (4, 0, 0.125), (6, 0, 0.03125), (3, 3, 1.0), (8, 1, 2 * (1 + 9) / 512)],
)
def test_sign_test_hand_worked(gained: int, lost: int, p: float) -> None:
    """Twice the chance of as few heads in as many throws of a coin as there are questions answered differently."""
    same = [True, False] * 5
    first = [*same, *[False] * gained, *[True] * lost]
    second = [*same, *[True] * gained, *[False] * lost]
    assert sign_test(first, second) == pytest.approx(p)
    assert sign_test(second, first) == pytest.approx(p)


def test_paired_ratio_against_the_bootstrap() -> None:
    """Two models that agree on most of 1,500 questions: the ratio is known far better than from each by itself."""
    source = np.random.default_rng(0)
    hard = source.random(1500)
    before = (hard < 0.45).astype(float)
    after = np.where(source.random(1500) < 0.1, source.random(1500) < 0.6, hard < 0.52).astype(float)
    found = paired_ratio(list(before - 0.25), list(after - 0.25))
    assert found is not None
    draws = source.integers(0, 1500, (4000, 1500))
    ratios = (after[draws].mean(1) - 0.25) / (before[draws].mean(1) - 0.25)
    assert found == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.02)
    apart = paired_ratio(list(before - 0.25), list(source.permutation(after) - 0.25))
    assert apart is not None
    assert apart[1] - apart[0] > 1.5 * (found[1] - found[0])


def test_paired_ratio_of_what_may_be_nothing() -> None:
    assert paired_ratio([0.75, -0.25, -0.25, -0.25], [0.75] * 4) is None
    assert paired_ratio([0.75], [0.75]) is None
    assert paired_ratio([-0.25] * 9, [0.75] * 9) is None
    assert paired_ratio([0.5] * 9, [0.25] * 9) == pytest.approx((0.5, 0.5))

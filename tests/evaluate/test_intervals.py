"""Intervals against values worked by hand."""

from __future__ import annotations

import pytest

from llmtune.evaluate.intervals import sign_test, wilson


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

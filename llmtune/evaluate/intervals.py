"""Confidence intervals of accuracies, and whether two models differ on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959964  # standard normal quantile of a two-sided 95 % interval


def wilson(correct: int, total: int, z: float = Z) -> tuple[float, float]:
    """Wilson score interval (1927) of a proportion; (0, 1) when there is nothing to go by."""
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    centre = share + z * z / (2 * total)
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def sign_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p-value that two models are equally often right, from the questions on which they differ: the exact
    form of McNemar's test (1947). 1 when they differ on none."""
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    differ = gained + lost
    tail = sum(math.comb(differ, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**differ)

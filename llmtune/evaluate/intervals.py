"""Confidence intervals of accuracies, and whether two models differ on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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


def accuracy_fields(name: str, right: Sequence[bool]) -> dict[str, Any]:
    """The fields of the scores for the share of questions answered right, of which there is one or more."""
    low, high = wilson(sum(right), len(right))
    return {
        f"{name}_accuracy": sum(right) / len(right),
        f"{name}_accuracy_low": low,
        f"{name}_accuracy_high": high,
        f"{name}_right": "".join("1" if one else "0" for one in right),
    }


def paired_ratio(first: Sequence[float], second: Sequence[float], z: float = Z) -> tuple[float, float] | None:
    """95 % interval of mean(second) / mean(first) over the same questions, by Fieller (1954); None where the first mean
    may as well be 0, so that the ratio has no bound."""
    count = len(first)
    if count < 2:
        return None
    x, y = math.fsum(first) / count, math.fsum(second) / count
    scale = z * z / (count * (count - 1))
    xx, yy, xy = (
        scale * math.fsum((a - at) * (b - bt) for a, b in zip(one, other, strict=True))
        for one, at, other, bt in ((first, x, first, x), (second, y, second, y), (first, x, second, y))
    )
    if x <= 0 or x * x <= xx:
        return None
    middle, spread = x * y - xy, x * x - xx
    root = math.sqrt(max(middle * middle - spread * (y * y - yy), 0.0))
    return (middle - root) / spread, (middle + root) / spread


def sign_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided p-value that two models are equally often right, from the questions on which they differ: the exact
    form of McNemar's test (1947). 1 when they differ on none."""
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    differ = gained + lost
    tail = sum(math.comb(differ, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**differ)

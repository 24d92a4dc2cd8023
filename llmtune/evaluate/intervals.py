"""Confidence intervals of accuracies, and of the difference of two models on the same questions."""

from __future__ import annotations

import math
import random
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


def paired_difference(
    first: Sequence[bool], second: Sequence[bool], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """(second's accuracy less first's, low, high): 95 % paired bootstrap interval over the questions (Efron 1979).

    Raises ValueError when the two did not answer the same number of questions.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"paired answers need the same questions: {len(first)} and {len(second)}")
    gains = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    source = random.Random(seed)
    means = sorted(sum(source.choices(gains, k=len(gains))) / len(gains) for _ in range(draws))
    return sum(gains) / len(gains), means[int(0.025 * draws)], means[int(0.975 * draws) - 1]

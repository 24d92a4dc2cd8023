"""How well two runtimes agree on the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmtune.export.heldout import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

TOP = 40  # tokens of the reference that the divergence is taken over
ASKED = 400  # tokens asked of the other runtime, so that those 40 are almost surely among them
# Two tokens this close in log-probability are a tie: which of them comes first says nothing.
_TIE = 0.02
_ALL_BUT_EQUAL = 20  # a divergence this many times below its limit


@dataclass(frozen=True)
class Limits:
    """Least top-1 agreement (share of positions) and largest mean divergence (nats) that pass."""

    top1: float
    kl: float


@dataclass(frozen=True)
class Predictions:
    """The likeliest next tokens at P positions: ids int64 (P, k) and natural log-probabilities float32 (P, k) over the
    whole vocabulary, likeliest first."""

    ids: NDArray[Any]
    logprobs: NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """positions compared; top1: share where both put the same token first (or a tie); kl: mean over positions of
    KL(reference ‖ other) over the reference's top 40 tokens, both renormalised there, in nats; worst: the largest."""

    positions: int
    top1: float
    kl: float
    worst: float

    def passes(self, limits: Limits) -> bool:
        """Both limits are kept. Distributions that all but coincide may differ in their likeliest token: a flat one has
        many next to equal, so there the divergence alone decides."""
        return self.kl <= limits.kl and (self.top1 >= limits.top1 or self.kl <= limits.kl / _ALL_BUT_EQUAL)

    def figures(self, limits: Limits) -> dict[str, float]:
        """Rounded, for the proof."""
        return {
            "positions": self.positions,
            "top1": round(self.top1, 4),
            "top1_at_least": limits.top1,
            "kl": float(f"{self.kl:.2e}"),
            "kl_at_most": limits.kl,
            "kl_worst_position": float(f"{self.worst:.2e}"),
        }


def predict(model: nn.Module, windows: Sequence[Window], top: int) -> Predictions:
    """The model's likeliest next tokens at every position of the windows."""
    from llmtune.export.jobs import transformers_run

    ids, logprobs = transformers_run.predict(model, [(window.tokens, window.positions) for window in windows], top)
    return Predictions(ids, logprobs)


def agreement(reference: Predictions, other: Predictions) -> Agreement:
    """Compare two runtimes' predictions at the same positions. Where either has a number that is not finite, nothing
    can be compared: no agreement, and an infinite divergence."""
    import numpy as np

    if not (np.isfinite(reference.logprobs).all() and np.isfinite(other.logprobs).all()):
        return Agreement(reference.ids.shape[0], 0.0, float("inf"), float("inf"))
    top = min(TOP, reference.ids.shape[1])
    same, divergences = 0, []
    for row in range(reference.ids.shape[0]):
        p = np.asarray(reference.logprobs[row, :top], dtype=np.float64)
        known = dict(zip(other.ids[row].tolist(), other.logprobs[row].tolist(), strict=True))
        floor = min(known.values())  # a token the other does not even list is at most this likely
        q = np.array([known.get(token, floor) for token in reference.ids[row, :top].tolist()], dtype=np.float64)
        p -= np.logaddexp.reduce(p)
        q -= np.logaddexp.reduce(q)
        divergences.append(float(np.sum(np.exp(p) * (p - q))))
        ours = dict(zip(reference.ids[row].tolist(), reference.logprobs[row].tolist(), strict=True))
        choice = int(other.ids[row, 0])
        same += ours.get(choice, -np.inf) >= reference.logprobs[row, 0] - _TIE
    kl, worst = float(np.mean(divergences)), float(np.max(divergences))
    return Agreement(len(divergences), float(same) / len(divergences), max(0.0, kl), max(0.0, worst))

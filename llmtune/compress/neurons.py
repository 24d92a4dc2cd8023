"""Which neurons of a feed-forward block to keep, and how the others' part is made up for.

    score_j = rms(a_j) · ‖W[:, j]‖₂          a: the neurons' activations on calibration text, W: `down_proj`, (out, in)
    V = argmin ‖A Wᵀ - A_S Vᵀ‖² + λ Σ_j mean(a_j²) ‖V[:, j] - W_S[:, j]‖²

The score is that of Wanda (arXiv 2306.11695) summed over a column. The least squares, which take the block's output
with all neurons as near as the kept ones (S) come, are those of the optimal brain surgeon for whole columns (ZipLM,
arXiv 2302.04089); they need no text but the second moments AᵀA. docs/prune.md has what both are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from llmtune.models.refit import energy, refit
from llmtune.monitor import Bar, Monitor

RIDGE = 0.01  # λ


@dataclass(frozen=True)
class Narrowed:
    """One block after it.

    kept:   numbers of the neurons that stay, ascending, int64 (width,)
    weight: of the module that takes them, (out, width), fp32
    share:  of the scores of all neurons that the kept ones have
    error:  of the block's output on the calibration text, ‖Y - Y'‖² / ‖Y‖²
    """

    kept: Tensor
    weight: Tensor
    share: float
    error: float

    def packed(self) -> bytes:
        """As a safetensors file."""
        figures = torch.tensor([self.share, self.error], dtype=torch.double)
        return save({"kept": self.kept, "weight": self.weight.contiguous(), "figures": figures})

    @classmethod
    def unpacked(cls, data: bytes) -> Narrowed:
        """From the bytes of `packed`."""
        found = load(data)
        return cls(found["kept"], found["weight"], *found["figures"].tolist())


def second_moments(
    model: Any, rows: Sequence[Tensor], takers: Sequence[nn.Module], monitor: Monitor, bar: Bar
) -> list[Tensor]:
    """Mean of aᵀa over the tokens of all rows for the inputs `a` of each module, (width, width) fp32 each, in one pass.

    rows: token ids, (1, T) int64 each; model: the whole one, on any device
    """
    sums: dict[int, Tensor] = {}

    def hook_for(place: int) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            a_TN = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
            sums[place] = sums[place].addmm_(a_TN.T, a_TN) if place in sums else a_TN.T @ a_TN

        return add

    hooks = [module.register_forward_pre_hook(hook_for(place)) for place, module in enumerate(takers)]
    try:
        run(model, rows, monitor, bar)
    finally:
        for hook in hooks:
            hook.remove()
    tokens = sum(row.numel() for row in rows)
    return [sums[place].cpu() / tokens for place in range(len(takers))]


def run(model: Any, rows: Sequence[Tensor], monitor: Monitor, bar: Bar) -> None:
    """Send the rows through the layers of a model, without its head."""
    body = model.base_model
    for row in rows:
        monitor.safe_point()
        with torch.no_grad():
            body(input_ids=row.to(model.device), use_cache=False)
        bar.advance()


def narrow(weight_ON: Tensor, moments_NN: Tensor, width: int) -> Narrowed:
    """The `width` neurons of the highest scores, and the weights that take them. weight_ON: (out, neurons)."""
    weight, moments = weight_ON.double(), moments_NN.double()
    scores = moments.diagonal().clamp_min(0).sqrt() * weight.norm(dim=0)
    # A stable sort: of equal scores the first ones stay, on every machine.
    kept = scores.argsort(descending=True, stable=True)[:width].sort().values
    found = refit(weight[:, kept], moments[kept][:, kept], weight @ moments[:, kept], RIDGE)
    missing = weight.clone()
    missing[:, kept] -= found
    whole = energy(weight, moments)
    return Narrowed(
        kept,
        found.float(),
        share=float(scores[kept].sum() / scores.sum()) if bool(scores.any()) else 1.0,
        error=float(energy(missing, moments) / whole) if bool(whole) else 0.0,
    )

"""Down projections that make up for the neurons which a token no longer has.

In a split the neurons of experts that are not chosen count nothing, and those of a chosen one more or less than they
did. The down projection of the layer is fitted anew, by least squares on the text, to give what all neurons gave: as
pruning does it (compress/neurons.py, after ZipLM, arXiv:2302.04089), but with neurons that come and go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmtune.models.moe.grouping import Grouping
from llmtune.models.refit import energy, refit

RIDGE = 0.3  # see refit.py; docs/moe.md has what others give
_TOGETHER = 4096  # tokens


def compensated(inputs_NH: Tensor, hidden_NI: Tensor, down_HI: Tensor, made: Grouping) -> tuple[Tensor, float]:
    """The down projection (H, I) in fp32, in the order of the dense part's neurons, and the error that is left of the
    layer's output on the text, mean ‖y - y'‖² / mean ‖y‖².

    inputs_NH, hidden_NI: inputs of the feed-forward part and activations of its neurons at N tokens, fp32
    """
    if made.active == len(made.experts_EW):
        return down_HI, 0.0  # nothing is missing
    moments_II = hidden_NI.new_zeros(hidden_NI.shape[1], hidden_NI.shape[1])
    wanted_HI, whole = torch.zeros_like(down_HI), 0.0
    for inputs_CH, hidden_CI in zip(inputs_NH.split(_TOGETHER), hidden_NI.split(_TOGETHER), strict=True):
        outputs_CH = hidden_CI @ down_HI.T
        left_CI = hidden_CI * made.scale_NI(inputs_CH)
        moments_II.addmm_(left_CI.T, left_CI)
        wanted_HI.addmm_(outputs_CH.T, left_CI)
        whole += float(outputs_CH.double().square().sum())
    tokens = len(inputs_NH)
    moments_II, wanted_HI = moments_II.div_(tokens).double(), wanted_HI.div_(tokens).double()
    fitted_HI = refit(down_HI, moments_II, wanted_HI, RIDGE)
    missing = whole / tokens - 2 * float((fitted_HI * wanted_HI).sum()) + float(energy(fitted_HI, moments_II))
    return fitted_HI.float(), max(0.0, missing * tokens / whole) if whole else 0.0

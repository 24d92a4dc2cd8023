"""The weights of one layer's experts, from those of its dense feed-forward part.

The names of the result are those of transformers' modules below `mlp.`: `gate.weight` (the router), `experts.*`, and in
Qwen2-MoE `shared_expert.*` and `shared_expert_gate.weight`. That gate is a sigmoid; with weights near zero it is one
half for every token, so the shared expert's outputs are doubled. Twice a number is exact in every format.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from llmtune.models.moe.grouping import Grouping

# As good as zero. Of a router whose experts' weights are not normalised, the standard deviation of its weights: nothing
# changes at step 0, and still there is an order among the experts. Of the shared expert's gate, each weight: llama.cpp
# computes sigmoid(x) as silu(x) / x, which is not a number at zero.
HINT = 1e-6


def upcycled(
    dense: Mapping[str, Tensor], experts: int, active: int, family: str, spread: float, seed: int
) -> dict[str, Tensor]:
    """Copies of the whole feed-forward part (Komatsuzaki et al. 2022, "Sparse Upcycling", arXiv:2212.05055): the same
    function, whichever experts are chosen. In Qwen2-MoE the shared expert is one more copy, and gives half of it.

    dense:  `gate_proj.weight`, `up_proj.weight` (I, H) and `down_proj.weight` (H, I)
    family: of the result
    spread: standard deviation of the router's weights where the chosen experts' weights are normalised
    """
    gate_IH, up_IH, down_HI = (dense[f"{part}.weight"] for part in ("gate_proj", "up_proj", "down_proj"))
    with_shared = family == "qwen2_moe"
    generator = torch.Generator().manual_seed(seed)
    router_EH = torch.randn(experts, gate_IH.shape[1], generator=generator) * (HINT if with_shared else spread)
    # Without normalisation the chosen ones' weights come to active / experts.
    scale = experts / (2 * active) if with_shared else 1.0
    made = {
        "gate.weight": router_EH.to(gate_IH.dtype),
        "experts.gate_up_proj": torch.cat([gate_IH, up_IH])[None].repeat(experts, 1, 1),
        "experts.down_proj": (down_HI.float() * scale).to(down_HI.dtype)[None].repeat(experts, 1, 1),
    }
    if with_shared:
        made |= _shared(gate_IH, up_IH, down_HI)
    return made


def divided(dense: Mapping[str, Tensor], grouping: Grouping, down_HI: Tensor) -> dict[str, Tensor]:
    """The neurons of the feed-forward part as a shared and routed experts (Qwen2-MoE), each neuron once.

    down_HI: fp32, in place of the dense part's own (compensate.py)

    A chosen expert's outputs are multiplied by its softmax weight; its down projection is divided by the mean of these
    weights, so that on average its neurons count as they did. With all experts active the function is the dense one.
    """
    gate_IH, up_IH = dense["gate_proj.weight"], dense["up_proj.weight"]
    chosen_EW, shared_S = grouping.experts_EW, grouping.shared_S
    down_EHW = down_HI[:, chosen_EW].transpose(0, 1)
    return {
        "gate.weight": grouping.router_EH.to(gate_IH.dtype),
        "experts.gate_up_proj": torch.cat([gate_IH[chosen_EW], up_IH[chosen_EW]], 1),
        "experts.down_proj": (down_EHW / grouping.weight).to(gate_IH.dtype).contiguous(),
        **_shared(gate_IH[shared_S], up_IH[shared_S], (2 * down_HI[:, shared_S]).to(gate_IH.dtype)),
    }


def _shared(gate_SH: Tensor, up_SH: Tensor, down_HS: Tensor) -> dict[str, Tensor]:
    return {
        "shared_expert.gate_proj.weight": gate_SH,
        "shared_expert.up_proj.weight": up_SH,
        "shared_expert.down_proj.weight": down_HS,
        "shared_expert_gate.weight": gate_SH.new_full((1, gate_SH.shape[1]), HINT),
    }

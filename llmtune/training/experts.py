"""The routed experts of a layer as they are trained: transformers' modules, our way through them.

transformers computes experts by a function that a model's configuration names. Its own leaves the products in the
weights' format, which for training is fp32, whatever autocast says: a step of a mixture takes longer than that of the
dense model that it was made from. Ours sorts the tokens by expert and multiplies in the autocast format, keeps for the
backward pass no more than the dense layer does, and puts the chosen experts' weights on their narrow activations
instead of their outputs. The model stays a standard one; the name is nowhere saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "llmtune"
BLOCKS = 16  # that the rows of an expert make where all experts get equally many; up to twice as many


def use_trained_experts(model: Any) -> bool:
    """Let a transformers model compute its experts by this file, where they are of the common kind (gate and up
    projections in one weight, outputs first, no biases); returns whether they are."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    experts = [module for module in model.modules() if hasattr(module, "gate_up_proj") and hasattr(module, "has_gate")]
    usual = all(module.has_gate and not module.has_bias and not module.is_transposed for module in experts)
    if not experts or not usual:
        return False
    ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)
    model.set_experts_implementation(NAME)
    for block in model.modules():
        if any(child in experts for child in block.children()):
            block.register_forward_pre_hook(_narrowed)
    return True


def _narrowed(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a block of experts is given, in the autocast format: router, shared and routed experts, which would each
    cast it for themselves, share one copy."""
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device):
        return inputs
    return (inputs[0].to(torch.get_autocast_dtype(device)), *inputs[1:])


@torch.compiler.disable  # the number of an expert's tokens decides shapes
def experts_forward(experts: Any, hidden_NH: Tensor, chosen_NK: Tensor, weights_NK: Tensor) -> Tensor:
    """Σ over a token's chosen experts of weight × down(gated(gate_up x)): (N, H), in the products' format.

    experts: a transformers experts module: `gate_up_proj` (E, 2W, H), `down_proj` (E, H, W), and `_apply_gate`, which
             makes (…, W) activations of (…, 2W) projections
    """
    device = hidden_NH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NH.dtype
    mixed: Tensor = _Experts.apply(
        hidden_NH.to(dtype),
        weights_NK.to(dtype),
        experts.gate_up_proj,
        experts.down_proj,
        sorted_by_expert(chosen_NK, len(experts.gate_up_proj)),
        experts._apply_gate,
    )
    return mixed


@dataclass(frozen=True)
class Sorted:
    """Pairs of token and expert as rows, sorted by expert, each expert's filled up to whole blocks.

    pair_R:  which pair a row is, as a place in the flattened (N, K); rows that fill up are the expert's last one again
    real_R1: false where a row fills up
    row_NK:  the row of each pair
    counts:  rows of each expert; none of one that nobody chose
    """

    pair_R: Tensor
    real_R1: Tensor
    row_NK: Tensor
    counts: list[int]


def sorted_by_expert(chosen_NK: Tensor, experts: int) -> Sorted:
    """The rows of a layer. In whole blocks, since torch's CPU library compiles code for each new shape of a product,
    which takes longer than the product itself: numbers of rows that come again are worth a few rows more."""
    chosen_S, device = chosen_NK.flatten(), chosen_NK.device
    order_S = chosen_S.argsort(stable=True)
    block = 1 << max(1, len(chosen_S) // (experts * BLOCKS)).bit_length() - 1
    pairs_E = torch.bincount(chosen_S, minlength=experts)
    filling_E = -pairs_E % block
    end_E, before_E = pairs_E.cumsum(0), filling_E.cumsum(0) - filling_E  # of the pairs; of what fills up other experts
    counts = (pairs_E + filling_E).tolist()
    expert_R = torch.arange(experts, device=device).repeat_interleave(pairs_E + filling_E, output_size=sum(counts))
    place_R = torch.arange(len(expert_R), device=device) - before_E[expert_R]
    last_R = end_E[expert_R] - 1
    row_S = torch.empty_like(order_S)
    row_S[order_S] = torch.arange(len(order_S), device=device) + before_E[chosen_S[order_S]]
    return Sorted(
        order_S[torch.minimum(place_R, last_R)], (place_R <= last_R)[:, None], row_S.view_as(chosen_NK), counts
    )


class _Experts(torch.autograd.Function):
    """Over the R rows of `Sorted`. Those that fill up have the weight zero, and so no part in any gradient.

    Rows are taken by index_select, which copies them whole: on a CPU, in bf16, several times as fast as indexing."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weights_NK: Tensor,
        gate_up_EUH: Tensor,
        down_EHW: Tensor,
        rows: Sorted,
        gated: Callable[[Tensor], Tensor],
    ) -> Tensor:
        gate_up, down = gate_up_EUH.to(hidden_NH.dtype), down_EHW.to(hidden_NH.dtype)
        token_R = rows.pair_R // weights_NK.shape[1]
        weight_R1 = weights_NK.flatten()[rows.pair_R, None] * rows.real_R1
        projected_RU = _grouped(hidden_NH.index_select(0, token_R), gate_up.transpose(1, 2), rows.counts)
        weighted_RW = gated(projected_RU).mul_(weight_R1)
        ctx.save_for_backward(hidden_NH, gate_up, down, token_R, weight_R1, rows.row_NK, projected_RU)
        ctx.counts, ctx.gated, ctx.stored = rows.counts, gated, gate_up_EUH.dtype
        return _summed(_grouped(weighted_RW, down.transpose(1, 2), rows.counts), rows.row_NK)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden_NH, gate_up, down, token_R, weight_R1, row_NK, projected_RU = ctx.saved_tensors
        of_output_RH = gradients[0].to(hidden_NH.dtype).index_select(0, token_R)
        of_weighted_RW = _grouped(of_output_RH, down, ctx.counts)
        with torch.enable_grad():
            projected_RU = projected_RU.detach().requires_grad_()
            gated_RW = ctx.gated(projected_RU)
        activated_RW = gated_RW.detach()
        of_weights_R = (of_weighted_RW * activated_RW).sum(1)
        of_gate_up = of_down = None
        if ctx.needs_input_grad[3]:
            of_down = _outer(of_output_RH, activated_RW * weight_R1, ctx.counts).to(ctx.stored)
        (of_projected_RU,) = torch.autograd.grad(gated_RW, projected_RU, of_weighted_RW.mul_(weight_R1))
        if ctx.needs_input_grad[2]:
            of_gate_up = _outer(of_projected_RU, hidden_NH.index_select(0, token_R), ctx.counts).to(ctx.stored)
        of_hidden_NH = _summed(_grouped(of_projected_RU, gate_up, ctx.counts), row_NK)
        return of_hidden_NH, of_weights_R[row_NK], of_gate_up, of_down, None, None


def _grouped(rows_RA: Tensor, weight_EAB: Tensor, counts: list[int]) -> Tensor:
    """Each expert's rows times its matrix: (R, B)."""
    result_RB = rows_RA.new_empty(len(rows_RA), weight_EAB.shape[2])
    with torch.no_grad():
        for expert, (rows_nA, out_nB) in enumerate(zip(rows_RA.split(counts), result_RB.split(counts), strict=True)):
            torch.mm(rows_nA, weight_EAB[expert], out=out_nB)
    return result_RB


def _outer(left_RA: Tensor, right_RB: Tensor, counts: list[int]) -> Tensor:
    """Leftᵀ · right over each expert's rows: (E, A, B), zero for an expert without any."""
    result_EAB = left_RA.new_empty(len(counts), left_RA.shape[1], right_RB.shape[1])
    with torch.no_grad():
        for expert, (left_nA, right_nB) in enumerate(zip(left_RA.split(counts), right_RB.split(counts), strict=True)):
            torch.mm(left_nA.T, right_nB, out=result_EAB[expert])
    return result_EAB


def _summed(rows_RH: Tensor, row_NK: Tensor) -> Tensor:
    """The rows of each token added up: (R, H) → (N, H)."""
    total_NH = rows_RH.index_select(0, row_NK[:, 0])
    for choice in range(1, row_NK.shape[1]):
        total_NH += rows_RH.index_select(0, row_NK[:, choice])
    return total_NH

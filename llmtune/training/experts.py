"""The routed experts of a layer as they are trained: transformers' modules, our way through them.

transformers computes experts by a function that a model's configuration names. Its own leaves the products in the
weights' format, which for training is fp32, whatever autocast says: a step of a mixture takes longer than that of the
dense model that it was made from. Ours sorts the tokens by expert and multiplies in the autocast format, keeps for the
backward pass no more than the dense layer does, and puts the chosen experts' weights on their narrow activations
instead of their outputs. The model stays a standard one; the name is nowhere saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAME = "llmtune"


def use_trained_experts(model: Any) -> bool:
    """Let a transformers model compute its experts by this file, where they are of the common kind (gate and up
    projections behind each other in one weight, no biases); returns whether they are."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    experts = [module for module in model.modules() if hasattr(module, "gate_up_proj") and hasattr(module, "has_gate")]
    usual = all(
        module.has_gate and module.is_concatenated and not module.has_bias and not module.is_transposed
        for module in experts
    )
    if not experts or not usual:
        return False
    ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)
    model.set_experts_implementation(NAME)
    return True


@torch.compiler.disable  # the number of an expert's tokens decides shapes
def experts_forward(experts: Any, hidden_NH: Tensor, chosen_NK: Tensor, weights_NK: Tensor) -> Tensor:
    """Σ over a token's chosen experts of weight × down(act(gate x) · up x): (N, H), in the products' format.

    experts: a transformers experts module: `gate_up_proj` (E, 2W, H), `down_proj` (E, H, W), `act_fn`
    """
    device = hidden_NH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NH.dtype
    order_S = chosen_NK.flatten().argsort(stable=True)
    counts_E = torch.bincount(chosen_NK.flatten(), minlength=len(experts.gate_up_proj))
    mixed: Tensor = _Experts.apply(
        hidden_NH.to(dtype),
        weights_NK.to(dtype),
        experts.gate_up_proj,
        experts.down_proj,
        order_S,
        counts_E.tolist(),
        experts.act_fn,
    )
    return mixed


class _Experts(torch.autograd.Function):
    """S = N·K pairs of token and expert, sorted by expert; `order_S` are their places in the flattened (N, K).

    Rows are taken by index_select, which copies them whole: on a CPU, in bf16, several times as fast as indexing."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weights_NK: Tensor,
        gate_up_EUH: Tensor,
        down_EHW: Tensor,
        order_S: Tensor,
        counts: list[int],
        act: Callable[[Tensor], Tensor],
    ) -> Tensor:
        gate_up, down = gate_up_EUH.to(hidden_NH.dtype), down_EHW.to(hidden_NH.dtype)
        token_S = order_S // weights_NK.shape[1]
        projected_SU = _grouped(hidden_NH.index_select(0, token_S), gate_up.transpose(1, 2), counts)
        gate_SW, up_SW = projected_SU.chunk(2, 1)
        weighted_SW = (act(gate_SW) * up_SW).mul_(weights_NK.flatten()[order_S, None])
        ctx.save_for_backward(hidden_NH, weights_NK, gate_up, down, order_S, projected_SU)
        ctx.counts, ctx.act, ctx.stored = counts, act, gate_up_EUH.dtype
        return _summed(_grouped(weighted_SW, down.transpose(1, 2), counts), order_S, weights_NK.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden_NH, weights_NK, gate_up, down, order_S, projected_SU = ctx.saved_tensors
        active, counts = weights_NK.shape[1], ctx.counts
        token_S = order_S // active
        weight_S1 = weights_NK.flatten()[order_S, None]
        of_output_SH = gradients[0].to(hidden_NH.dtype).index_select(0, token_S)
        of_weighted_SW = _grouped(of_output_SH, down, counts)
        with torch.enable_grad():
            gate_SW, up_SW = (part.detach().requires_grad_() for part in projected_SU.chunk(2, 1))
            activated_SW = ctx.act(gate_SW) * up_SW
        of_down = _outer(of_output_SH, activated_SW.detach() * weight_S1, counts) if ctx.needs_input_grad[3] else None
        of_weights_S = (of_weighted_SW * activated_SW.detach()).sum(1)
        of_projected_SU = torch.cat(
            torch.autograd.grad(activated_SW, (gate_SW, up_SW), of_weighted_SW.mul_(weight_S1)), 1
        )
        of_gate_up = (
            _outer(of_projected_SU, hidden_NH.index_select(0, token_S), counts) if ctx.needs_input_grad[2] else None
        )
        of_hidden_NH = _summed(_grouped(of_projected_SU, gate_up, counts), order_S, active)
        of_weights_NK = torch.empty_like(of_weights_S)
        of_weights_NK[order_S] = of_weights_S
        return (
            of_hidden_NH,
            of_weights_NK.view_as(weights_NK),
            None if of_gate_up is None else of_gate_up.to(ctx.stored),
            None if of_down is None else of_down.to(ctx.stored),
            None,
            None,
            None,
        )


def _grouped(rows_SA: Tensor, weight_EAB: Tensor, counts: list[int]) -> Tensor:
    """Each expert's rows times its matrix: (S, B)."""
    result_SB = rows_SA.new_empty(len(rows_SA), weight_EAB.shape[2])
    with torch.no_grad():
        for expert, (rows_nA, out_nB) in enumerate(zip(rows_SA.split(counts), result_SB.split(counts), strict=True)):
            torch.mm(rows_nA, weight_EAB[expert], out=out_nB)
    return result_SB


def _outer(left_SA: Tensor, right_SB: Tensor, counts: list[int]) -> Tensor:
    """Leftᵀ · right over each expert's rows: (E, A, B), zero for an expert without any."""
    result_EAB = left_SA.new_empty(len(counts), left_SA.shape[1], right_SB.shape[1])
    with torch.no_grad():
        for expert, (left_nA, right_nB) in enumerate(zip(left_SA.split(counts), right_SB.split(counts), strict=True)):
            torch.mm(left_nA.T, right_nB, out=result_EAB[expert])
    return result_EAB


def _summed(rows_SH: Tensor, order_S: Tensor, active: int) -> Tensor:
    """The rows of each token added up: (S, H) sorted by expert → (N, H)."""
    place_S = torch.empty_like(order_S)
    place_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    place_NK = place_S.view(-1, active)
    total_NH = rows_SH.index_select(0, place_NK[:, 0])
    for choice in range(1, active):
        total_NH += rows_SH.index_select(0, place_NK[:, choice])
    return total_NH

"""GPTQ's inner step on a CPU: columns rounded one after the other, the error of each spread over those left.

llmcompressor's own step walks over the columns of a row-major matrix; here a column is contiguous, and takes half as
many kernels (benchmarks/gptq_step.py). Same formulas: Frantar et al., https://arxiv.org/abs/2210.17323,
algorithm 1. Importing this module registers it with llmcompressor; import it late.
"""

from __future__ import annotations

from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationType
from compressed_tensors.quantization.utils import calculate_range
from compressed_tensors.utils.impl_backend import ImplBackend
from llmcompressor.modifiers.gptq.gptq_quantize import column_scale_window
from torch import Tensor


def _fits(W1: Tensor, *_: Any, quant_args: QuantizationArgs, **__: Any) -> bool:
    return W1.device.type == "cpu" and W1.dtype == torch.float32 and quant_args.type == QuantizationType.INT


@ImplBackend.register("gptq_block_update", _fits, 0)
def gptq_block_update_on_cpu(
    W1: Tensor,
    Hinv1: Tensor,
    Q1: Tensor,
    Err1: Tensor,
    losses1: Tensor,
    *,
    scale: Tensor,
    zero_point: Tensor | None,
    global_scale: Tensor | None,
    g_idx: Tensor | None,
    quant_args: QuantizationArgs,
    i1: int,
) -> None:
    """Fill `Q1` (rounded weights), `Err1` (errors by the diagonal) and `losses1` (their squares); all (B, R, C) fp32.

    W1:    weights (B, R, C): B matrices of R rows, C columns of the block; left as they are
    Hinv1: upper Cholesky factor of the inverse Hessian, (B, C, C) of the block
    scale, zero_point, g_idx: of all columns; i1 is the block's first
    """
    rows, width = W1.shape[-2:]
    window = {"num_rows": rows, "i1": i1, "i2": i1 + width}
    scales_BRC, zeros_BRC = column_scale_window(scale, zero_point, global_scale, g_idx, quant_args, **window)
    low, high = (float(bound) for bound in calculate_range(quant_args, W1.device))
    narrow = scale.dtype != torch.float32
    for item in range(len(W1)):
        left_CR, scales_CR = W1[item].t().clone(memory_format=torch.contiguous_format), _by_column(scales_BRC[item])
        zeros_CR = None if zeros_BRC is None else _by_column(zeros_BRC[item])
        rounded_CR, errors_CR = torch.empty_like(left_CR), torch.empty_like(left_CR)
        diagonal = Hinv1[item].diagonal().tolist()
        for column in range(width):
            weight_R, rounded_R, error_R = left_CR[column], rounded_CR[column], errors_CR[column]
            torch.div(weight_R, scales_CR[column], out=rounded_R)
            if zeros_CR is None:
                rounded_R.round_().clamp_(low, high)
            else:
                rounded_R.add_(zeros_CR[column]).round_().clamp_(low, high).sub_(zeros_CR[column])
            rounded_R.mul_(scales_CR[column])
            if narrow:  # what the codes give back is rounded to it, so the error that is spread holds that too
                rounded_R.copy_(rounded_R.to(scale.dtype))
            torch.sub(weight_R, rounded_R, out=error_R).div_(diagonal[column])
            left_CR[column + 1 :].addr_(Hinv1[item, column, column + 1 :], error_R, alpha=-1)
        Q1[item], Err1[item], losses1[item] = rounded_CR.t(), errors_CR.t(), errors_CR.square().t()


def _by_column(of_weights_RC: Tensor) -> Tensor:
    return of_weights_RC.to(torch.float32).t().contiguous()

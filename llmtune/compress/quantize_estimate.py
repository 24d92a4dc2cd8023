"""What quantizing a model will take in memory and time, from its shape. Imports no torch.

Memory was measured with SmolLM2-135M and with six of its layers, in bf16 and fp32, and is right within a tenth there;
seconds are first values from matmul rates. `benchmarks/quantize.py` measures both, to correct them from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from llmtune.compress.grid import Grid, Method
from llmtune.machine import Machine
from llmtune.models.shape import ModelShape

_LIBRARIES = {"gptq": 545 << 20, "round": 585 << 20, "nf4": 500 << 20, "int8": 500 << 20}  # resident beside the model
_START_SECONDS = 15.0  # imports, loading, saving
_SECONDS_A_COLUMN = 0.9e-3  # the loop over the inputs of a layer: a dozen small kernels each, whatever their size
_ROUNDED_A_SECOND = 8.0e6  # weights a second a core through the search of scales


@dataclass(frozen=True)
class Estimate:
    """Peak bytes of the process, and seconds."""

    memory: int
    seconds: float


def bytes_in_work(grid: Grid | None, calibrated: bool, machine: Machine) -> int:
    """Bytes of a weight while it is rounded: 2 (bf16), or 4 (fp32) with calibration where the machine does not compute
    in bf16, or where codes have more bits than bf16 keeps of `(code - zero) * scale`."""
    if not calibrated:
        return 2
    return 2 if machine.computes_in_bf16 and grid is not None and grid.bits <= 4 else 4


def estimate(
    shape: ModelShape,
    rounded: Mapping[str, tuple[int, ...]],
    method: Method,
    grid: Grid | None,
    rows: int,
    row_tokens: int,
    machine: Machine,
) -> Estimate:
    """Memory and time for rounding the weights `rounded` (name → (out, in)) with `rows` rows of calibration text."""
    width = bytes_in_work(grid, bool(rows), machine)
    weights = width * shape.parameters
    count = sum(size[0] * size[1] for size in rounded.values())
    largest = max((size[0] * size[1] for size in rounded.values()), default=0)
    widest = max((size[1] for size in rounded.values()), default=0)
    memory = _LIBRARIES[method] + weights + int(count * _bytes_beside(method, grid, width)) + 12 * largest
    seconds = _START_SECONDS + count / (_ROUNDED_A_SECOND * machine.cores)
    if rows:
        tokens = rows * row_tokens
        # Inputs and outputs of one layer for all rows, the Hessians of a layer, the logits of one row and a copy.
        memory += 2 * width * tokens * shape.hidden_size + 3 * 4 * widest**2 + 2 * width * row_tokens * shape.vocab_size
        forward = 2 * 2 * tokens * count
        hessians = sum(2 * tokens * size[1] ** 2 for size in rounded.values())
        columns = sum(size[1] for size in rounded.values())
        seconds += forward / machine.rate("bf16" if width == 2 else "fp32") + hessians / machine.rate("fp32")
        seconds += columns * _SECONDS_A_COLUMN
    return Estimate(memory, math.ceil(seconds))


def _bytes_beside(method: Method, grid: Grid | None, width: int) -> float:
    """Bytes of a rounded weight beside the weight itself: its code, and its part of scale and zero point; of LLM.int8()
    a copy in fp16 from which the codes are made."""
    if grid is not None:
        return grid.bits / 8 + 2 * width / grid.group_size
    return 0.5 if method == "nf4" else 1 + 2

"""What a conversion will need, from the shapes before and after. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmtune.machine import Machine
from llmtune.models.moe.target import Layout
from llmtune.models.shape import ModelShape

COLLECTED = 1 << 30  # bytes of the layers' inputs that a split keeps at a time
_LIBRARIES = 500 << 20
_START_SECONDS = 12.0
_COPIED_A_SECOND = 3e8  # bytes loaded, rearranged and written
# Of the rate of products in fp32: three layers of SmolLM2's shape on 16,384 tokens took 19.1 s of one thread.
_SHARE = 0.8
_ROUNDS = 10  # passes of k-means over a layer's profiles, with the first comparison of all with all


@dataclass(frozen=True)
class Estimate:
    """Peak bytes of the process, bytes on disk (result and work), and seconds."""

    memory: int
    disk: int
    seconds: float


def estimate(shape: ModelShape, made: ModelShape, layout: Layout, tokens: int, machine: Machine) -> Estimate:
    """Of converting a model of `shape` into `made`, with `tokens` of calibration text (0: upcycling)."""
    width, hidden = shape.intermediate_size, shape.hidden_size
    memory = _LIBRARIES + shape.bytes + 2 * made.bytes  # the result, and the copy that is saved
    if layout.method == "split" and not machine.computes_in_bf16:
        # The model and the parts that are cut from it are in fp32 then; what is saved is as it was stored.
        cut = sum(math.prod(size) for name, size in made.tensors.items() if ".mlp." in name)
        memory += 4 * shape.parameters - shape.bytes + (4 - made.bytes // made.parameters) * cut
    seconds = _START_SECONDS + (shape.bytes + 2 * made.bytes) / _COPIED_A_SECOND
    kept = 0
    if layout.method == "split":
        inputs = 4 * tokens * hidden * shape.layers
        # A layer's activations, activities, their profiles by neuron, what makes and compares them; then the moments by
        # which its output is fitted, in fp32 and double, and the products of the solution.
        fit = (4 + 3 * 8) * width**2 + (2 * 4 + 4 * 8) * width * hidden
        memory += min(inputs, max(COLLECTED, inputs // shape.layers))
        memory += max(5 * 4 * tokens * width + 2 * 4 * width**2, 4 * tokens * width + fit)
        passes = math.ceil(inputs / COLLECTED)
        layer = 2 * tokens * (5 * width * hidden + 2 * width**2 + _ROUNDS * width * layout.experts + 2 * hidden**2)
        layer += 2 * (width**3 // 3 + 4 * width**2 * hidden)  # in double, at half the rate
        work = passes * 2 * shape.parameters * tokens + shape.layers * layer
        seconds += work / (_SHARE * machine.cpu_rate("fp32"))
        kept = shape.layers * (8 * width + 4 * layout.experts * hidden + 4 * width * hidden)
    return Estimate(memory, made.bytes + kept, math.ceil(seconds))

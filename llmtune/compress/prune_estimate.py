"""What pruning a model will take in memory, disk and time, from the shapes before and after. Imports no torch.

Seconds are first values from the rates of products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmtune.compress.prune_target import Target
from llmtune.compress.structure import Structure
from llmtune.machine import Machine
from llmtune.models.shape import ModelShape

_MOMENTS_BYTES = 2 << 30  # that the second moments of the layers of one pass may take, at least one layer's
_LIBRARIES = 450 << 20
_START_SECONDS = 15.0


def layers_in_a_pass(width: int) -> int:
    """How many layers' second moments are taken in one pass over the text: a matter of memory alone, and the same on
    every machine."""
    return max(1, _MOMENTS_BYTES // (4 * width**2))


@dataclass(frozen=True)
class Estimate:
    """Peak bytes of the process; bytes of the work folder; seconds."""

    memory: int
    work: int
    seconds: float


def estimate(
    shape: ModelShape,
    structure: Structure,
    target: Target,
    smaller: ModelShape,
    tokens: int,
    row: int,
    machine: Machine,
) -> Estimate:
    """Of pruning a model to the shape `smaller`, with so many tokens of calibration text in rows of `row` tokens."""
    narrower, fewer = target.width < structure.width, target.layers < structure.layers
    each = 2 if machine.computes_in_bf16 else 4
    together = min(target.layers, layers_in_a_pass(structure.width))
    moments = 4 * structure.width**2 if narrower else 0
    down = shape.hidden_size * target.width if narrower else 0  # weights that the kept neurons go to, in a layer
    # The model and what is left of it, in bf16; moments of the layers of a pass, or, in fp64, what one layer is solved
    # from; the new weights of all layers, in fp32; what a row of text takes on its way through a layer.
    memory = _LIBRARIES + each * shape.parameters + 4 * smaller.parameters
    memory += together * moments + 10 * moments + 4 * target.layers * down
    memory += 4 * row * (4 * shape.hidden_size + 4 * structure.width)
    body = shape.parameters - shape.vocab_size * shape.hidden_size * (1 if shape.tied else 2)
    passes = int(fewer) + (math.ceil(target.layers / together) if narrower else 0)
    forward = 2.0 * tokens * body * passes
    sums = 2.0 * tokens * structure.width**2 * target.layers if narrower else 0.0
    solving = (
        2.0 * (target.width**3 / 3 + 2 * shape.hidden_size * structure.width**2) * target.layers if narrower else 0.0
    )
    seconds = _START_SECONDS + solving / machine.cpu_rate("fp64")
    seconds += forward / machine.rate("bf16" if each == 2 else "fp32") + sums / machine.rate("fp32")
    return Estimate(memory, 4 * target.layers * down, math.ceil(seconds))

"""What a pruning comes to before it is done: layers and width that stay, memory and time. Imports no torch.

Seconds are first values from matmul rates, as in `estimate.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmtune.compress.structure import Structure, layers_problem, pruned_shape, width_problem
from llmtune.errors import LlmtuneError
from llmtune.machine import Machine
from llmtune.models.shape import ModelShape

MULTIPLE = 64  # of neurons: what quantizers' groups and matrix kernels fit
MOMENTS_BYTES = 2 << 30  # that the second moments of the layers of one pass may take, at least one layer's
_LIBRARIES = 450 << 20
_START_SECONDS = 15.0
_BF16_FLOPS_A_CORE = 3.0e11
_FP32_FLOPS_A_CORE = 0.9e11
_FP64_FLOPS_A_CORE = 0.2e11
_GPU_FLOPS = 5.0e13


@dataclass(frozen=True)
class Wish:
    """What is to stay: a number (int), a share (float), or None: all.

    width: neurons of each feed-forward block
    layers: layers
    parameters: share of all parameters, instead of `width`, which is then as large as they allow
    """

    width: int | float | None = None
    layers: int | float | None = None
    parameters: float | None = None


@dataclass(frozen=True)
class Target:
    """Layers and neurons of each feed-forward block that stay, and what a person should know of it."""

    layers: int
    width: int
    notes: tuple[str, ...] = ()


def target_of(shape: ModelShape, structure: Structure, wish: Wish) -> Target:
    """What a wish means for this model.

    Raises LlmtuneError when nothing would be left, when there are not so many, or when the model cannot lose any.
    """
    layers = _layers(structure, wish.layers)
    if wish.parameters is None:
        width, notes = _width(structure, wish.width)
    else:
        width, notes = _width_for(shape, structure, layers, wish.parameters), ()
    if width < structure.width and (problem := width_problem(shape, structure)):
        raise LlmtuneError(problem, where="keep_width", fix="prune layers alone, by keep_layers")
    if layers < structure.layers and (problem := layers_problem(shape)):
        raise LlmtuneError(problem, where="keep_layers", fix="leave it out")
    return Target(layers, width, notes)


def _layers(structure: Structure, asked: int | float | None) -> int:
    layers = structure.layers if asked is None else _number(asked, structure.layers)
    if layers < 1:
        raise LlmtuneError(
            f"{asked} of {structure.layers} layers is none", where="keep_layers", fix="keep one at least"
        )
    if layers > structure.layers:
        raise LlmtuneError(
            f"there are {structure.layers} layers, fewer than {layers}", where="keep_layers", fix="lower it"
        )
    return layers


def _width(structure: Structure, wish: int | float | None) -> tuple[int, tuple[str, ...]]:
    """Neurons, and what to say of them."""
    asked = structure.width if wish is None else _number(wish, structure.width)
    if asked == structure.width:
        return asked, ()
    if asked > structure.width:
        raise LlmtuneError(
            f"the feed-forward blocks have {structure.width} neurons, fewer than {asked}",
            where="keep_width",
            fix="lower it",
        )
    width = min(structure.width, MULTIPLE * math.floor(asked / MULTIPLE + 0.5))
    if width == 0:
        raise LlmtuneError(
            f"{asked} neurons of {structure.width}, rounded to a multiple of {MULTIPLE}, is none",
            where="keep_width",
            fix=f"keep {MULTIPLE} at least",
        )
    said = f"keep_width: {asked} neurons rounded to {width}, a multiple of {MULTIPLE}"
    return width, () if width == asked else (said,)


def _width_for(shape: ModelShape, structure: Structure, layers: int, share: float) -> int:
    """The most neurons with which no more than this share of the parameters stays."""
    whole = structure.width
    for width in (whole, *range(MULTIPLE * ((whole - 1) // MULTIPLE), 0, -MULTIPLE)):
        if pruned_shape(shape, structure, range(layers), width).parameters <= share * shape.parameters:
            return width
    least = pruned_shape(shape, structure, range(layers), min(MULTIPLE, whole)).parameters / shape.parameters
    raise LlmtuneError(
        f"with {layers} layers of {min(MULTIPLE, whole)} neurons, {least:.1%} of the parameters stay",
        where="keep_parameters",
        fix="lower keep_layers, or keep more parameters",
    )


def _number(asked: int | float, of: int) -> int:
    return asked if isinstance(asked, int) else math.floor(asked * of + 0.5)


def layers_in_a_pass(width: int) -> int:
    """How many layers' second moments are taken in one pass over the text: a matter of memory alone, and the same on
    every machine."""
    return max(1, MOMENTS_BYTES // (4 * width**2))


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
    if machine.accelerators:
        seconds = (forward + sums) / _GPU_FLOPS
    else:
        rate = _BF16_FLOPS_A_CORE if each == 2 else _FP32_FLOPS_A_CORE
        seconds = (forward / rate + sums / _FP32_FLOPS_A_CORE) / machine.cores
    seconds += _START_SECONDS + solving / (_FP64_FLOPS_A_CORE * machine.cores)
    return Estimate(memory, 4 * target.layers * down, math.ceil(seconds))

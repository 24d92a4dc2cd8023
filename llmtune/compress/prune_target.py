"""What a wish comes to before anything is pruned: layers and width that stay. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmtune.compress.structure import Structure, layers_problem, pruned_shape, width_problem
from llmtune.errors import LlmtuneError
from llmtune.models.shape import ModelShape

MULTIPLE = 64  # of neurons: what quantizers' groups and matrix kernels fit


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

    def leaves_out(self, structure: Structure) -> bool:
        """Whether anything of such a model goes."""
        return self.layers < structure.layers or self.width < structure.width


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

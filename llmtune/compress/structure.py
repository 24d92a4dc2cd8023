"""Where the layers of a model and the neurons of its feed-forward blocks stand among its tensors, and what is left when
some of them go: on names and shapes for a plan, on the tensors themselves for the work. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llmtune.errors import CannotRunHere
from llmtune.models.families import CONV1D_FAMILIES, RECURRENT, RECURRENT_FIELDS
from llmtune.models.shape import ModelShape

T = TypeVar("T")

# Modules of a feed-forward block, by their names in a layer: those whose outputs are the neurons, how many outputs a
# neuron has (two where gate and up are one matrix, one half after the other), and the one whose inputs they are.
_BLOCKS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("gate_proj", "up_proj"), 1, "down_proj"),
    (("gate_up_proj",), 2, "down_proj"),
    (("up_proj",), 1, "down_proj"),
    (("c_fc_0", "c_fc_1"), 1, "c_proj"),
    (("c_fc",), 1, "c_proj"),
    (("fc1",), 1, "fc2"),
    (("fc_in",), 1, "fc_out"),
    (("dense_h_to_4h",), 1, "dense_4h_to_h"),
)
_IN_A_LAYER = re.compile(r"(?P<stack>.+?\.)(?P<number>\d+)\.(?P<inside>.+)")
_EXPERTS = re.compile(r"\.(experts|router|block_sparse_moe|shared_expert\w*)\.")
_WIDTH_FIELDS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_WIDTH_UNSAID = frozenset(
    {"gpt2", "gptj", "gpt_bigcode", "codegen", "imagegpt"}
)  # `n_inner` may be left out: 4 × hidden
_COUNT_FIELDS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_PER_LAYER_FIELDS = ("layer_types", "no_rope_layers", "mlp_layer_types")  # lists with one entry a layer
# Fields by which a layer's own number decides what it does, so that it is another function in another place.
_BY_NUMBER = ("attention_types", "scale_attn_by_inverse_layer_idx", "num_kv_shared_layers", "cross_attention_layers")


@dataclass(frozen=True)
class Structure:
    """The one stack of layers of a model.

    stack:  what the names of its tensors begin with, up to the layer's number (`model.layers.`)
    layers: how many there are
    width:  neurons of the feed-forward block, the same in all of them
    down:   name in a layer of the module that takes the neurons (`mlp.down_proj`)
    cuts:   name in a layer of each tensor that has neurons → (its axis of neurons, how many a neuron has on it)
    """

    stack: str
    layers: int
    width: int
    down: str
    cuts: Mapping[str, tuple[int, int]]

    def kept(
        self, tensors: Mapping[str, T], layers: Sequence[int], cut: Callable[[T, int, int, int], T]
    ) -> dict[str, T]:
        """What is left of the tensors with only the layers of these numbers (ascending), numbered anew from 0; `cut`
        makes a narrower one of a tensor that has neurons, its axis, how many a neuron has on it, and the layer."""
        places = {number: place for place, number in enumerate(layers)}
        left: dict[str, T] = {}
        for name, value in tensors.items():
            match = _IN_A_LAYER.fullmatch(name)
            if match is None or match["stack"] != self.stack:
                left[name] = value
            elif (number := int(match["number"])) in places:
                if (found := self.cuts.get(match["inside"])) is not None:
                    value = cut(value, *found, number)
                left[f"{self.stack}{places[number]}.{match['inside']}"] = value
        return left


def find_structure(shape: ModelShape) -> Structure:
    """The structure of a model, from its configuration and the names and shapes of its tensors.

    Raises CannotRunHere saying why it cannot be pruned: a mixture of experts, recurrent layers, quantized weights, or
    feed-forward blocks that are not known or not alike.
    """
    _refuse(shape)
    stacks: dict[str, dict[int, dict[str, tuple[int, ...]]]] = {}
    for name, size in shape.tensors.items():
        if match := _IN_A_LAYER.fullmatch(name):
            stacks.setdefault(match["stack"], {}).setdefault(int(match["number"]), {})[match["inside"]] = size
    found = {stack: blocks for stack, blocks in stacks.items() if _block_of(blocks[min(blocks)])}
    if len(found) != 1:
        what = "several stacks of layers" if found else "no layers whose feed-forward block is known here"
        raise _refusal(shape, f"there are {what} among its tensors")
    ((stack, layers),) = found.items()
    if sorted(layers) != list(range(shape.layers)):
        raise _refusal(shape, f"config.json says {shape.layers} layers, its tensors are those of {len(layers)}")
    transposed = shape.family in CONV1D_FAMILIES
    first = _cuts(layers[0], transposed)
    if first is None or any(_cuts(layer, transposed) != first for layer in layers.values()):
        raise _refusal(shape, "the feed-forward blocks of its layers are not alike")
    width, down, cuts = first
    return Structure(stack, len(layers), width, down, cuts)


def pruned_config(config: Mapping[str, Any], structure: Structure, layers: Sequence[int], width: int) -> dict[str, Any]:
    """The configuration of the model with the layers of these numbers, and feed-forward blocks so wide."""
    inner = config.get("text_config")
    if isinstance(inner, Mapping):
        return {**config, "text_config": pruned_config(inner, structure, layers, width)}
    changed = dict(config)
    counted = next(name for name in _COUNT_FIELDS if config.get(name) is not None)
    for name in _PER_LAYER_FIELDS:
        if isinstance(config.get(name), list) and len(config[name]) == structure.layers:
            changed[name] = [config[name][number] for number in layers]
    changed[counted] = len(layers)
    changed |= dict.fromkeys(_width_fields(config, structure), width)
    return changed


def pruned_shape(shape: ModelShape, structure: Structure, layers: Sequence[int], width: int) -> ModelShape:
    """The shape of the model with the layers of these numbers and feed-forward blocks so wide, stored in bf16."""

    def narrowed(size: tuple[int, ...], axis: int, each: int, _: int) -> tuple[int, ...]:
        return (*size[:axis], each * width, *size[axis + 1 :])

    tensors = structure.kept(shape.tensors, layers, narrowed)
    made = ModelShape(pruned_config(shape.config, structure, layers, width), tensors, 0)
    return ModelShape(made.config, tensors, 2 * made.parameters)


def width_problem(shape: ModelShape, structure: Structure) -> str | None:
    """Why a model's feed-forward blocks cannot take another width; None where they can."""
    if _width_fields(shape.text, structure):
        return None
    return f"config.json of this {shape.family} model has no field that says how wide its feed-forward blocks are"


def layers_problem(shape: ModelShape) -> str | None:
    """Why no layer of a model can be left out; None where it can."""
    by_number = next((name for name in _BY_NUMBER if shape.text.get(name)), None)
    if by_number is None:
        return None
    return f"what a layer of this {shape.family} model does depends on its number ({by_number})"


def _refuse(shape: ModelShape) -> None:
    if shape.config.get("quantization_config"):
        raise _refusal(shape, "its weights are quantized", "prune the checkpoint that it was made from")
    if any(_EXPERTS.search(name) for name in shape.tensors):
        raise _refusal(shape, "it is a mixture of experts", "prune the dense model before a `moe` stage")
    recurrent = shape.family in RECURRENT or any(shape.text.get(name) is not None for name in RECURRENT_FIELDS)
    if recurrent:
        raise _refusal(shape, "it has recurrent or convolutional layers")
    if "auto_map" in shape.config:
        raise _refusal(shape, "it brings Python code of its own, which the widths of its layers may be written in")


def _refusal(shape: ModelShape, why: str, fix: str | None = None) -> CannotRunHere:
    return CannotRunHere(f"this {shape.family} model cannot be pruned: {why}", fix=fix)


def _width_fields(config: Mapping[str, Any], structure: Structure) -> list[str]:
    said = [name for name in _WIDTH_FIELDS if config.get(name) == structure.width]
    return said or (["n_inner"] if config.get("model_type") in _WIDTH_UNSAID else [])


def _block_of(layer: Mapping[str, tuple[int, ...]]) -> tuple[list[str], int, str] | None:
    """The modules of a layer's feed-forward block: those that make neurons, outputs a neuron, and the taker."""
    for makers, each, taker in _BLOCKS:
        for name in layer:
            place, made, _ = name.rpartition(f"{makers[0]}.weight")
            if made and (not place or place.endswith(".")):
                found = [place + maker for maker in makers]
                if all(f"{module}.weight" in layer for module in (*found, place + taker)):
                    return found, each, place + taker
    return None


def _cuts(layer: Mapping[str, tuple[int, ...]], transposed: bool) -> tuple[int, str, dict[str, tuple[int, int]]] | None:
    """Neurons of a layer, the module that takes them, and its tensors that have them: see `Structure`.

    transposed: the weights lie inputs first (Conv1D)
    """
    block = _block_of(layer)
    if block is None:
        return None
    makers, each, taker = block
    cuts = {f"{maker}.weight": (1 if transposed else 0, each) for maker in makers}
    cuts |= {f"{maker}.bias": (0, each) for maker in makers if f"{maker}.bias" in layer}
    cuts[f"{taker}.weight"] = (0 if transposed else 1, 1)
    widths = {layer[name][axis] // many for name, (axis, many) in cuts.items()}
    return (widths.pop(), taker, cuts) if len(widths) == 1 else None

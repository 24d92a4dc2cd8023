"""What a method rounds and what that comes to in bytes: arithmetic on tensor shapes alone. Imports no torch.

Sizes are those of the pack-quantized layout of compressed-tensors and of bitsandbytes' serialised layers, element by
element; `tests/compress` holds them against the files.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from llmtune.errors import LlmtuneError

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape

Method = Literal["nf4", "int8", "round", "gptq"]
GROUP_SIZES = (16, 32, 64, 128, 256)
# 2-D weights that are no linear layer of a block: tables that are looked up, and the routers of experts.
_TABLES = re.compile(
    r"(^|\.)(embed_tokens\w*|embed_in|embed_positions|word_embeddings\w*|wte|wpe|embeddings?)\.weight$"
)
_ROUTERS = re.compile(r"\.(gate|router|router\.\w+|shared_expert_gate)\.weight$")
BASE_BYTES = 2  # embeddings, norms, biases, scales: bf16


@dataclass(frozen=True)
class Grid:
    """The numbers a weight may take. bits per code; group_size: inputs that share one scale (one row of a weight is
    cut into `in / group_size` groups); symmetric: zero is code 0, else each group has a zero point of its own."""

    bits: int
    group_size: int
    symmetric: bool


def is_linear(name: str, shape: tuple[int, ...], ignore: Iterable[str] = ()) -> bool:
    """Whether a checkpoint's tensor is the weight of a linear layer that a quantization rounds, by its name and shape.

    Embedding tables, routers and experts (fused when loaded) are none.
    ignore: module names, globs of them, or `re:` and an expression.
    """
    if len(shape) != 2 or not name.endswith(".weight") or min(shape) < 2:
        return False
    if _TABLES.search(name) or _ROUTERS.search(name):
        return False
    return ".experts." not in name and not ignored(name.removesuffix(".weight"), ignore)


def ignored(module: str, patterns: Iterable[str]) -> bool:
    """Whether a module's name meets one of the patterns: the whole name, its last part, a glob, or `re:…`."""
    for pattern in patterns:
        if pattern.startswith("re:"):
            if re.match(pattern[3:], module):
                return True
        elif module == pattern or module.endswith("." + pattern) or fnmatch.fnmatchcase(module, pattern):
            return True
    return False


def linears(shape: ModelShape, ignore: Iterable[str] = ()) -> dict[str, tuple[int, ...]]:
    """The tensors of a model that a method rounds: name → (out, in)."""
    ignore = tuple(ignore)
    return {name: size for name, size in shape.tensors.items() if is_linear(name, size, ignore)}


def check_group_size(weights: Mapping[str, tuple[int, ...]], group_size: int) -> None:
    """Raise LlmtuneError naming the first weight whose rows `group_size` does not divide, and the sizes that fit."""
    for name, shape in weights.items():
        if shape[1] % group_size:
            common = math.gcd(*(size[1] for size in weights.values()))
            fit = [size for size in GROUP_SIZES if common % size == 0] or [common]
            raise LlmtuneError(
                f"group_size {group_size} does not divide the {shape[1]} inputs of this layer",
                where=name,
                fix=f"group sizes that fit every layer of this model: {', '.join(map(str, fit))}",
            )


def conv1d_problem(model_type: str) -> str:
    """The sentence that says why a family is refused."""
    return (
        f"models of type {model_type} keep their weights in Conv1D modules, "
        "which round and gptq (llmcompressor) cannot store"
    )


def experts_problem(shape: ModelShape, method: Method, ignore: Iterable[str]) -> str | None:
    """The sentence that says why a mixture of experts is refused; None for other models, and where nf4 and int8 are
    told to leave the experts alone."""
    ignore = tuple(ignore)
    for name in shape.tensors:
        module, experts, _ = name.partition(".experts.")
        if experts and method in ("round", "gptq"):
            return f"round and gptq cannot store the experts of {shape.family}; export it to GGUF"
        if experts and not ignored(f"{module}.experts", ignore):
            return (
                f"{method} cannot round the fused experts of {shape.family}; name '*.experts' in `ignore` to keep them"
            )
    return None


def packed_bytes(out: int, inputs: int, grid: Grid) -> int:
    """Bytes of one pack-quantized weight of shape (out, inputs): codes, scales, zero points and its stored shape."""
    groups = inputs // grid.group_size
    codes = out * math.ceil(inputs * grid.bits / 32) * 4
    zero_points = 0 if grid.symmetric else math.ceil(out * grid.bits / 32) * 4 * groups
    return codes + out * groups * BASE_BYTES + zero_points + 2 * 8


def nf4_bytes(out: int, inputs: int) -> int:
    """Bytes of one NF4 weight with doubly quantized scales: 4-bit codes in blocks of 64, 8-bit scales in blocks of 256,
    two tables and the quant state (about 165 bytes of JSON)."""
    blocks = math.ceil(out * inputs / 64)
    return math.ceil(out * inputs / 2) + blocks + math.ceil(blocks / 256) * 4 + (256 + 16) * 4 + 165


def int8_bytes(out: int, inputs: int) -> int:
    """Bytes of one LLM.int8() weight: 8-bit codes and one fp32 scale a row."""
    return out * inputs + out * 4 + 1


def linear_bytes(method: Method, out: int, inputs: int, grid: Grid | None) -> int:
    """Bytes of one rounded weight of shape (out, inputs) under a method."""
    if method == "nf4":
        return nf4_bytes(out, inputs)
    if method == "int8":
        return int8_bytes(out, inputs)
    assert grid is not None
    return packed_bytes(out, inputs, grid)


def forecast_bytes(shape: ModelShape, method: Method, grid: Grid | None, ignore: Iterable[str]) -> int:
    """Bytes of all tensors of a model after quantization."""
    rounded = linears(shape, ignore)
    linear = sum(linear_bytes(method, size[0], size[1], grid) for size in rounded.values())
    kept = sum(math.prod(size) * BASE_BYTES for name, size in shape.tensors.items() if name not in rounded)
    return linear + kept


def scheme(grid: Grid) -> dict[str, Any]:
    """A grid in the words of compressed-tensors, as they stand in a checkpoint's `config_groups`."""
    weights = {
        "num_bits": grid.bits,
        "type": "int",
        "symmetric": grid.symmetric,
        "strategy": "group",
        "group_size": grid.group_size,
    }
    return {"targets": ["Linear"], "weights": weights}


def expected_quantization_config(method: Method, grid: Grid | None) -> dict[str, Any]:
    """What decides in the `quantization_config` that a checkpoint will have; `tests/compress` holds it against the
    file's. grid: None for bitsandbytes."""
    if grid is None:
        return {"quant_method": "bitsandbytes", "load_in_4bit": method == "nf4", "load_in_8bit": method == "int8"}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": scheme(grid)}}


def quantized_shape(shape: ModelShape, bytes_after: int, method: Method, grid: Grid | None) -> ModelShape:
    """The shape of the same model after quantization: its size, and a configuration that says how it is quantized, by
    which later stages tell what they cannot do with it."""
    return replace(
        shape,
        bytes=bytes_after,
        config=shape.config | {"quantization_config": expected_quantization_config(method, grid)},
    )

"""Read the integer codes of a checkpoint in compressed-tensors' format, layer by layer, without a model.

What a runtime with the same grid needs in order to repack them instead of rounding twice: symmetric 4-bit codes in
groups of 32 are llama.cpp's Q4_0 blocks, those with a zero point Q4_1. The file layout is pack-quantized (codes dense
in int32 words, lowest bits first, stored as code + 2^(bits - 1)) or int-quantized (one int8 a code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtune.errors import BadArtifact
from llmtune.files import read_json
from llmtune.models.safetensors_header import tensor_files


@dataclass(frozen=True)
class Codes:
    """One rounded weight; iterates as (name, codes, scales, zero_points).

    name:        of the weight in the unquantized checkpoint (`model.layers.0.mlp.up_proj.weight`)
    codes:       int8 (out, in), within [-2^(bits-1), 2^(bits-1) - 1]
    scales:      float32 (out, groups), each exactly as stored (bf16)
    zero_points: int8 (out, groups) on the same range, None when symmetric
    bits, group_size: of the grid; a group is `group_size` neighbouring inputs of one row

    The weight is `(codes - zero_point) * scale`.
    """

    name: str
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int8] | None
    bits: int
    group_size: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.name, self.codes, self.scales, self.zero_points))

    def weight(self) -> NDArray[np.float32]:
        """The weight that the codes stand for: float32 (out, in)."""
        grouped = self.codes.reshape(*self.scales.shape, self.group_size).astype(np.float32)
        if self.zero_points is not None:
            grouped -= self.zero_points[..., None]
        return (grouped * self.scales[..., None]).reshape(self.codes.shape)

    def scales_fit_fp16(self) -> bool:
        """Whether every scale, and with zero points every offset `-(zero + 2^(bits-1)) * scale`, is exact in fp16."""
        exact = _exact_in_fp16(self.scales)
        if self.zero_points is not None:
            unsigned = self.zero_points.astype(np.float32) + 2 ** (self.bits - 1)
            exact &= _exact_in_fp16(unsigned * self.scales)
        return exact


def quantization_config(checkpoint: Path) -> dict[str, Any] | None:
    """The `quantization_config` of a checkpoint's config.json, None where it has none."""
    found = read_json(checkpoint / "config.json").get("quantization_config")
    return dict(found) if found else None


def has_codes(checkpoint: Path) -> bool:
    """Whether `read_codes` can read this checkpoint."""
    config = quantization_config(checkpoint)
    return config is not None and config.get("quant_method") == "compressed-tensors"


def read_codes(checkpoint: Path) -> Iterator[Codes]:
    """Every rounded weight of a compressed-tensors checkpoint, in the order of names, one at a time in memory.

    Raises BadArtifact when the checkpoint is not of this kind or a tensor is missing.
    """
    import torch  # bf16 has no numpy type: tensors are read as torch's and handed on as numpy's
    from safetensors import safe_open

    arguments = _weight_arguments(checkpoint)
    where = tensor_files(checkpoint)
    for name in sorted(where):
        module, _, kind = name.rpartition(".")
        if kind not in ("weight_packed", "weight") or f"{module}.weight_scale" not in where:
            continue
        tensors: dict[str, torch.Tensor] = {}
        for part in ("weight_packed", "weight", "weight_scale", "weight_shape", "weight_zero_point"):
            full = f"{module}.{part}"
            if full in where:
                with safe_open(where[full], framework="pt") as file:
                    tensors[part] = file.get_tensor(full)
        yield _decode(f"{module}.weight", tensors, arguments, where[name])


def _decode(name: str, tensors: dict[str, Any], arguments: dict[str, Any], file: Path) -> Codes:
    bits = int(arguments["num_bits"])
    scales = tensors["weight_scale"].float().numpy()
    if "weight_packed" in tensors:
        if "weight_shape" not in tensors:
            raise BadArtifact("packed weight without its shape", where=f"{file}: {name}")
        out, inputs = (int(size) for size in tensors["weight_shape"])
        codes = unpack(tensors["weight_packed"].numpy(), bits, inputs)
    else:
        codes = tensors["weight"].numpy().astype(np.int8)
        out, inputs = codes.shape
    zero_points = None
    if not arguments.get("symmetric", True):
        if "weight_zero_point" not in tensors:
            raise BadArtifact("asymmetric weight without zero points", where=f"{file}: {name}")
        stored = tensors["weight_zero_point"].numpy()
        zero_points = unpack(stored.T, bits, out).T.copy() if stored.dtype == np.int32 else stored.astype(np.int8)
    if codes.shape != (out, inputs) or inputs % scales.shape[1]:
        raise BadArtifact(f"codes {codes.shape} and scales {scales.shape} do not fit", where=f"{file}: {name}")
    return Codes(name, codes, scales, zero_points, bits, inputs // scales.shape[1])


def unpack(words: NDArray[np.int32], bits: int, columns: int) -> NDArray[np.int8]:
    """Codes int8 (rows, columns) of words int32 (rows, ceil(columns * bits / 32)); code i stands at bit i * bits."""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(words.shape[0], -1)
    stream = np.unpackbits(raw, axis=1, bitorder="little")[:, : columns * bits].reshape(-1, columns, bits)
    unsigned = stream @ (1 << np.arange(bits, dtype=np.int32))
    return (unsigned - (1 << (bits - 1))).astype(np.int8)


def _weight_arguments(checkpoint: Path) -> dict[str, Any]:
    config = quantization_config(checkpoint)
    if config is None or config.get("quant_method") != "compressed-tensors":
        raise BadArtifact("not a checkpoint in compressed-tensors' format, so it holds no codes", where=str(checkpoint))
    groups = config.get("config_groups") or {}
    if len(groups) != 1:
        raise BadArtifact(f"{len(groups)} groups of quantization settings, one expected", where=str(checkpoint))
    arguments = dict(next(iter(groups.values()))["weights"])
    if arguments.get("type") != "int":
        raise BadArtifact(f"weights of type {arguments.get('type')!r}, 'int' expected", where=str(checkpoint))
    return arguments


def _exact_in_fp16(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))

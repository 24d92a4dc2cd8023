"""What a quantized checkpoint weighs, and how far its weights moved: read from the files alone."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from llmtune.compress.codes import has_codes, read_codes
from llmtune.files import folder_bytes
from llmtune.models.shape import ELEMENT_BITS, ModelShape

# Tensors that belong to one rounded weight beside its codes.
_COMPANION = re.compile(
    r"\.(weight_packed|weight_scale|weight_zero_point|weight_shape|SCB|weight_format"
    r"|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+))$"
)


def stored_tensors(checkpoint: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (safetensors dtype, shape) of every tensor in a checkpoint's safetensors files."""
    from safetensors import safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - a safe_open handle is no mapping
                part = file.get_slice(name)
                found[name] = (part.get_dtype(), tuple(part.get_shape()))
    return found


def size_metrics(checkpoint: Path, base: ModelShape) -> dict[str, Any]:
    """Bytes and true bits per weight of a quantized checkpoint made from `base`.

    bits_per_weight counts every tensor (embeddings, head, norms, scales, zero points) over all parameters;
    linear_bits_per_weight the rounded layers alone, with their scales and zero points.
    """
    tensors = stored_tensors(checkpoint)
    rounded = {_COMPANION.sub("", name) for name in tensors if _COMPANION.search(name)}
    weights = {f"{name}.weight" for name in rounded}
    total = linear = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * ELEMENT_BITS[dtype] // 8
        total += size
        if _COMPANION.search(name) or name in weights:
            linear += size
    parameters = base.parameters
    in_linears = sum(math.prod(base.tensors[name]) for name in weights if name in base.tensors)
    return {
        "parameters": parameters,
        "quantized_layers": len(rounded),
        "quantized_parameters": in_linears,
        "bytes": folder_bytes(checkpoint),
        "weight_bytes": total,
        "bits_per_weight": 8 * total / parameters,
        "linear_bits_per_weight": 8 * linear / in_linears if in_linears else None,
    }


def rounding_error(checkpoint: Path, base: Path) -> dict[str, float]:
    """Relative error ‖W - W'‖ / ‖W‖ of the rounded weights by kind of layer (`q_proj`, …), over all layers; {} for
    formats that hold no plain codes. GPTQ lets this grow where the calibration text hardly looks, in order to lower
    the error of the layers' outputs."""
    if not has_codes(checkpoint):
        return {}
    from safetensors import safe_open

    files = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            files.update(dict.fromkeys(file.keys(), path))
    wrong: dict[str, float] = {}
    whole: dict[str, float] = {}
    for codes in read_codes(checkpoint):
        if codes.name not in files:
            continue
        with safe_open(files[codes.name], framework="pt") as file:
            before = file.get_tensor(codes.name).float().numpy()
        kind = codes.name.split(".")[-2]
        wrong[kind] = wrong.get(kind, 0.0) + float(((before - codes.weight()) ** 2).sum())
        whole[kind] = whole.get(kind, 0.0) + float((before**2).sum())
    return {kind: math.sqrt(wrong[kind] / whole[kind]) if whole[kind] else 0.0 for kind in sorted(wrong)}

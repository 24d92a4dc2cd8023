"""What a quantized checkpoint weighs, and how far its weights moved: read from the files alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llmtune.compress.codes import has_codes, read_codes
from llmtune.files import folder_bytes
from llmtune.models.safetensors_header import read_header, tensor_files, weight_files
from llmtune.models.shape import ModelShape, rounded_module


def size_metrics(checkpoint: Path, base: ModelShape) -> dict[str, Any]:
    """Bytes and true bits per weight of a quantized checkpoint made from `base`.

    bits_per_weight counts every tensor (embeddings, head, norms, scales, zero points) over all parameters;
    linear_bits_per_weight the rounded layers alone, with their scales and zero points.
    """
    sizes = {name: tensor.size for file in weight_files(checkpoint) for name, tensor in read_header(file).items()}
    rounded = {module for name in sizes if (module := rounded_module(name))}
    weights = {f"{module}.weight" for module in rounded}
    total = sum(sizes.values())
    linear = sum(size for name, size in sizes.items() if rounded_module(name) or name in weights)
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

    files = tensor_files(base)
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

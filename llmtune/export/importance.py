"""Importance of a weight's input channels: the mean square of what flows through them on the domain's own text.

llama.cpp's rounding takes it as the weight of each column's error (its "importance matrix": examples/imatrix). It is
measured on the checkpoint itself with forward hooks, on text of the training split, never on held-out text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmtune.monitor import Monitor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


def measure_importance(
    model: nn.Module, rows: Iterable[Tensor], monitor: Monitor | None = None
) -> dict[str, NDArray[np.float32]]:
    """Mean square of every linear layer's inputs: Hugging Face weight name → float32 (inputs,).

    model: in eval mode, float32 for exact sums. rows: int64 (1, tokens) each. Linear layers are torch's Linear and
    transformers' Conv1D; experts stored as one stacked parameter have none.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    monitor = monitor or Monitor()
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    handles = []

    def hook(name: str) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).to(torch.float32)
            sums[name] = sums.get(name, 0) + flat.square().sum(0, dtype=torch.float64)
            counts[name] = counts.get(name, 0) + flat.shape[0]

        return add

    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)):
            handles.append(module.register_forward_pre_hook(hook(f"{name}.weight")))
    rows = list(rows)
    try:
        with torch.inference_mode(), monitor.bar("importance of weights", len(rows), "rows") as bar:
            for row in rows:
                monitor.safe_point()
                model(row.to(next(model.parameters()).device), use_cache=False)
                bar.advance(1)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / counts[name]).to(torch.float32).cpu().numpy() for name, total in sums.items()}


def by_gguf_name(importance: Mapping[str, NDArray[np.float32]], architecture: str) -> dict[str, NDArray[np.float32]]:
    """The same under GGUF tensor names; what has no GGUF name, or no signal at all, is left out.

    architecture: `general.architecture` of the GGUF file.
    """
    import gguf

    layers = 1 + max((int(part) for name in importance for part in name.split(".") if part.isdecimal()), default=0)

    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], layers)
    found = {}
    for name, values in importance.items():
        mapped = names.get_name(name, try_suffixes=(".weight",))
        if mapped is not None and float(values.sum()) > 0:
            found[mapped] = values
    return found

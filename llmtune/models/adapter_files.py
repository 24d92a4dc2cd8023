"""Adapters on disk: save one so that peft alone loads it, and tell whether it belongs to a base model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.errors import BadArtifact
from llmtune.files import read_json, write_json
from llmtune.models.merge import NAME
from llmtune.models.safetensors_header import read_header, weight_files
from llmtune.models.shape import read_shape

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
FINGERPRINT = "base_weights"  # key in the metadata of the weights file


def save_adapter(
    model: PeftModel,
    folder: Path,
    base_folder: Path | None = None,
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Save the adapter's weights and configuration; `peft.PeftModel.from_pretrained(base, folder)` loads them.

    base_folder: the checkpoint it was trained on; a fingerprint of its weights is kept, for `check_adapter_fits`
    state_dict:  full weights by the model's names, gathered from ranks (ZeRO-3, FSDP)
    Raises BadArtifact when a tensor is empty, not finite, or lacking, or when all B matrices are zero.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    expected = set(get_peft_model_state_dict(model, adapter_name=NAME))
    if state_dict is not None:
        state_dict = {_bare(name): value for name, value in state_dict.items()}
    found = get_peft_model_state_dict(model, state_dict=state_dict, adapter_name=NAME)
    weights = {name: value.detach().to("cpu").contiguous().clone() for name, value in sorted(found.items())}
    _check_adapter(weights, expected)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"}
    if base_folder is not None:
        metadata[FINGERPRINT] = weights_fingerprint(base_folder)
    save_file(weights, folder / WEIGHTS, metadata=metadata)
    config = {
        key: sorted(value) if isinstance(value, set) else getattr(value, "value", value)
        for key, value in model.peft_config[NAME].to_dict().items()
    }
    # The path of a folder on this machine is nobody else's business; the id of a hub repository is.
    base = str(config.get("base_model_name_or_path") or "")
    is_path = base.startswith(("/", ".", "~")) or base.count("/") != 1 or Path(base).exists()
    write_json(folder / CONFIG, config | {"base_model_name_or_path": None if is_path else base, "inference_mode": True})


def check_adapter_fits(adapter_folder: Path, base_folder: Path) -> None:
    """Raise BadArtifact when an adapter was made for another base: layers that the base lacks, other sizes, or (where
    the adapter carries the fingerprint of its base) other weights. Reads headers and samples only."""
    file = adapter_folder / WEIGHTS
    if not file.is_file() or not (adapter_folder / CONFIG).is_file():
        raise BadArtifact(f"no adapter: {WEIGHTS} or {CONFIG} is missing", where=str(adapter_folder))
    fix = "use the base model that this adapter was trained on"
    named = read_json(adapter_folder / CONFIG).get("base_model_name_or_path")
    fix += f" ({named})" if named else ""
    base = {name.removesuffix(".weight"): shape for name, shape in read_shape(base_folder).tensors.items()}
    for name, stored in read_header(file).items():
        part, _, which = name.removesuffix(".weight").rpartition(".lora_")
        if which not in ("A", "B"):
            continue
        layer = part.removeprefix(PREFIX)
        shape = base.get(layer) or next((base[key] for key in base if _same_layer(key, layer)), None)
        if shape is None:
            raise BadArtifact(
                f"the base model has no layer {layer} that this adapter changes", where=str(file), fix=fix
            )
        width = stored.shape[1] if which == "A" else stored.shape[0]
        if width not in shape:
            raise BadArtifact(
                f"adapter for another base: {layer} is {' × '.join(map(str, shape))} here, "
                f"the adapter's {which} is for {width} {'inputs' if which == 'A' else 'outputs'}",
                where=str(file),
                fix=fix,
            )
    kept = _metadata(file).get(FINGERPRINT)
    if kept and kept != weights_fingerprint(base_folder):
        raise BadArtifact("adapter for another base: same sizes, but other weights", where=str(file), fix=fix)


def weights_fingerprint(folder: Path) -> str:
    """24 hex digits over names, shapes, formats and samples (the first and middle 2 KiB) of every tensor."""
    parts = []
    for file in weight_files(folder):
        with file.open("rb") as opened:
            for name, tensor in read_header(file).items():
                sample = hashlib.sha256(f"{name}{tensor.shape}{tensor.size}".encode())
                for start in (0, tensor.size // 2):
                    opened.seek(tensor.offset + start)
                    sample.update(opened.read(min(2048, tensor.size - start)))
                parts.append(sample.hexdigest())
    return hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()[:24]


def _bare(name: str) -> str:
    """A parameter's name without the segments that torch.compile, DDP and FSDP put into it."""
    wrappers = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
    first, *rest = name.split(".")
    return ".".join(
        part for part in ([] if first in wrappers else [first]) + rest if part not in wrappers[:1] + wrappers[2:]
    )


def _check_adapter(weights: Mapping[str, torch.Tensor], expected: set[str]) -> None:
    import torch

    lacking = sorted(expected - set(weights))
    if lacking or not weights:
        raise BadArtifact(
            f"{len(lacking)} tensors of the adapter are not in what was given to save, for example {lacking[:1]}",
            fix="pass a state_dict with the model's own parameter names",
        )
    for name, value in weights.items():
        if not value.numel():
            raise BadArtifact(
                "the adapter's tensor is empty: its weights are spread over ranks (ZeRO-3)",
                where=name,
                fix="gather the full weights first and pass them as state_dict",
            )
        if not bool(torch.isfinite(value).all()):
            raise BadArtifact("the adapter's tensor is not finite", where=name, fix="lower the learning rate")
    if not any(bool(value.any()) for name, value in weights.items() if ".lora_B." in name):
        raise BadArtifact(
            "every B matrix of the adapter is zero: it does nothing",
            fix="check that its parameters were given to the optimizer and that the batches hold trained tokens",
        )


def _same_layer(stored: str, layer: str) -> bool:
    """Whether a name in a checkpoint and a name in the model differ only by a prefix such as `transformer.`"""
    return stored.endswith("." + layer) or layer.endswith("." + stored)


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {}

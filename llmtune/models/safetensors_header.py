"""The safetensors files of a checkpoint and their headers: which tensors stand where, no weights. Imports no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llmtune.errors import BadArtifact

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "tf_model.h5", "flax_model.msgpack")
ELEMENT_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
QUANT_STATE = ".quant_state.bitsandbytes__"  # in the name of what describes bitsandbytes' codes
# A header over this is no header (the limit of the safetensors library itself).
LONGEST_HEADER = 100_000_000
AGAIN = "the file was cut short or damaged: copy or download the model again, or run the stage that made it again"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single file, as transformers prefers it, or every one that its index
    names. Raises BadArtifact."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            if not all(isinstance(name, str) for name in names):
                raise TypeError("weight_map names something that is no file name")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadArtifact(f"the index of the weights is damaged: {error}", where=str(index), fix=AGAIN) from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise BadArtifact(
                f"{len(missing)} of the {len(names)} weight files are missing: {', '.join(missing[:3])}",
                where=str(folder),
                fix=AGAIN,
            )
        return [folder / name for name in names]
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise BadArtifact(
            f"the weights are only there in a format that is not safetensors ({pickled[0]}); loading a pickle runs "
            "whatever code is in it, so it is refused",
            where=str(folder),
            fix="convert it once where you trust it: AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder), then use the new folder",
        )
    raise BadArtifact("no weights: neither model.safetensors nor its index is there", where=str(folder), fix=AGAIN)


def tensor_files(folder: Path) -> dict[str, Path]:
    """Name of every stored tensor → the file that it stands in. Raises BadArtifact."""
    return {name: file for file in weight_files(folder) for name in read_header(file)}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in a file: `size` bytes, `offset` bytes after its beginning.

    value: the content of the small tensors that describe a packed weight
    """

    shape: tuple[int, ...]
    size: int
    offset: int = 0
    value: bytes = b""


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file; checks that the file is as long as its header says. Raises BadArtifact."""
    size = file.stat().st_size
    if size < 8:
        raise BadArtifact(f"weight file of {size} bytes", where=str(file), fix=AGAIN)
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > min(size - 8, LONGEST_HEADER):
            problem = f"its header claims {length:,} bytes, the file has {size:,}"
            raise BadArtifact(f"not a whole safetensors file: {problem}", where=str(file), fix=AGAIN)
        try:
            header = json.loads(opened.read(length))
            header.pop("__metadata__", None)
            stored = {name: _stored(name, entry, opened, 8 + length) for name, entry in header.items()}
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadArtifact(f"damaged safetensors header: {error}", where=str(file), fix=AGAIN) from error
    if size != 8 + length + end:
        raise BadArtifact(
            f"truncated: {size:,} bytes, but its header lists tensors up to byte {8 + length + end:,}"
            if size < 8 + length + end
            else f"{size - 8 - length - end:,} bytes too many after the last tensor",
            where=str(file),
            fix=AGAIN,
        )
    return stored


def _stored(name: str, entry: Mapping[str, Any], file: BinaryIO, data: int) -> StoredTensor:
    """One entry of a header, checked: the bytes it claims are those its shape and number format need."""
    shape, (start, end) = tuple(int(size) for size in entry["shape"]), entry["data_offsets"]
    needed = math.prod(shape) * ELEMENT_BITS[entry["dtype"]] // 8
    if end - start != needed:
        raise ValueError(f"tensor {name} of shape {shape} claims {end - start:,} bytes instead of {needed:,}")
    value = b""
    if name.endswith(".weight_shape") or QUANT_STATE in name:
        place = file.tell()
        file.seek(data + start)
        value = file.read(end - start)
        file.seek(place)
    return StoredTensor(shape, end - start, data + start, value)

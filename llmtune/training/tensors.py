"""Write a safetensors file one tensor at a time, so that neither the whole state nor a copy of it stands in memory.

(The library's own writer first turns all tensors into bytes; under ZeRO-3 they would all have to be gathered first.)
Read with `safetensors.safe_open`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor


def write_tensors(
    path: Path | None, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[tuple[str, Callable[[], Tensor]]]
) -> None:
    """Write fp32 tensors of these names and shapes, in that order, whole or not at all (temporary name, sync, rename).

    path: None on ranks that only take part in gathering
    Raises ValueError when a tensor has another name, shape or type than was said.
    """
    if path is None:
        for _, get in tensors:
            get()
        return
    header: dict[str, object] = {}
    start = 0
    for name, shape in shapes.items():
        end = start + 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for (name, get), (expected, shape) in zip(tensors, shapes.items(), strict=True):
                tensor = get().detach().to("cpu").contiguous()
                if name != expected or tuple(tensor.shape) != tuple(shape) or tensor.dtype != torch.float32:
                    raise ValueError(
                        f"expected {expected} {tuple(shape)} fp32, got {name} {tuple(tensor.shape)} {tensor.dtype}"
                    )
                file.write(memoryview(tensor.numpy()).cast("B") if tensor.numel() else b"")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order, in place: the library writes its keys in a random one, and equal
    contents should be equal files. A kill between leaves a file of the same length with the old or the new header."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) != length:
            raise ValueError(f"{path.name}: header of {length} bytes became {len(text)}")
        file.seek(8)
        file.write(text)

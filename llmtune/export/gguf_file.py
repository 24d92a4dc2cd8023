"""Write the final GGUF file from the converter's float32 one, tensor by tensor, in the formats asked for."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmtune.export.formats import ALIGNMENT, EMBEDDINGS, FORMATS, format_of, tensor_bytes
from llmtune.export.ggml import quantize
from llmtune.files import is_disk_full
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Written by the library itself.
_AUTOMATIC = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.alignment")


class Packer(Protocol):
    """Where tensors come from that are rounded already (`repack.Repacker`)."""

    def takes(self, name: str, values: NDArray[np.float32]) -> bool:
        """Whether it has this tensor."""

    def __call__(self, name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The tensor's blocks in the file's main format."""


@dataclass(frozen=True)
class Naming:
    """What a GGUF file says of itself (`general.*`). licence: SPDX id or a phrase; base: name of the base model;
    base_url: where it is published."""

    name: str
    licence: str | None = None
    base: str | None = None
    base_url: str | None = None
    tags: tuple[str, ...] = ("text-generation",)


@dataclass
class Written:
    """What was written. kinds: format of every tensor; weights_with_importance: how many tensors were rounded with an
    importance; packed: how many took codes as they were; kept: how many stayed unrounded beside those, because the
    checkpoint has no codes of them."""

    kinds: dict[str, str] = field(default_factory=dict)
    weights_with_importance: int = 0
    packed: int = 0
    kept: int = 0


def write_gguf(
    source: Path,
    target: Path,
    main: str,
    embeddings: str,
    naming: Naming,
    *,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    packer: Packer | None = None,
    monitor: Monitor | None = None,
) -> Written:
    """Round the float32 GGUF `source` into `target`; the same inputs give the same bytes.

    importance: GGUF tensor name → float32 (inputs,)
    packer: what it does not take would be rounded by nobody's wish, so it is kept as it is (embeddings: as set)
    Raises CannotRunHere naming the first tensor whose rows do not fit its format, before anything is written; OSError
    (ENOSPC) when the disk is full.
    """
    import gguf

    monitor = monitor or Monitor()
    reader = gguf.GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    written = Written()
    taken: set[str] = set()
    for name, tensor in tensors.items():
        shape = _rows_last(tensor)
        kind = format_of(name, shape, main, embeddings)
        if packer is not None and (kind != "f32" or name in EMBEDDINGS):
            values = tensor.data.reshape(shape)
            if packer.takes(name, values):
                kind, taken = main, taken | {name}
            elif name not in EMBEDDINGS:
                kind = _exact_format(values)
                written.kept += 1
        written.kinds[name] = kind
        tensor_bytes(name, shape, kind)
    writer = gguf.GGUFWriter(None, arch=_text(reader, "general.architecture"))
    writer.data_alignment = ALIGNMENT
    _metadata(reader, writer, naming, FORMATS[main].file, gguf)
    for name, tensor in tensors.items():
        _declare(writer, name, _rows_last(tensor), written.kinds[name], gguf)
    total = sum(int(tensor.n_elements) for tensor in tensors.values())
    with _disk_full_said(target), monitor.bar("rounding tensors", total, "weights") as bar:
        writer.write_header_to_file(path=target)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            monitor.safe_point()
            kind = written.kinds[name]
            values = tensor.data.reshape(_rows_last(tensor))
            if packer is not None and name in taken:
                writer.write_tensor_data(packer(name, values))
            else:
                weights = (importance or {}).get(name) if FORMATS[kind].block > 1 else None
                writer.write_tensor_data(quantize(values, kind, weights, name=name))
                written.weights_with_importance += weights is not None
            bar.advance(int(tensor.n_elements))
        writer.close()
    written.packed = len(taken)
    return written


def _exact_format(values: NDArray[np.float32]) -> str:
    """The smallest plain format that holds the values as they are; bf16 before f16, since checkpoints mostly are."""
    import numpy as np

    if not np.any(np.ascontiguousarray(values).view(np.uint32) & 0xFFFF):
        return "bf16"
    with np.errstate(over="ignore"):
        return "f16" if np.array_equal(values, values.astype(np.float16).astype(np.float32)) else "f32"


@contextmanager
def _disk_full_said(file: Path) -> Iterator[None]:
    """A short write as the error that it is: numpy's names neither the reason nor the file."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error


def _declare(writer: Any, name: str, shape: tuple[int, ...], kind: str, gguf: Any) -> None:
    import numpy as np

    row_bytes = tensor_bytes(name, shape[-1:], kind)
    stored = (*shape[:-1], row_bytes)  # the writer turns bytes of a row back into values for quantized types
    total = math.prod(stored)
    raw = gguf.GGMLQuantizationType(FORMATS[kind].ggml)
    if kind in ("f32", "f16"):
        writer.add_tensor_info(name, shape, np.dtype(np.float32 if kind == "f32" else np.float16), total, raw)
    else:
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), total, raw)


def _metadata(reader: Any, writer: Any, naming: Naming, file_type: int, gguf: Any) -> None:
    """Copy the model's own fields; say who it is ourselves, so that no folder's name and no guess gets in."""
    writer.add_type("model")
    writer.add_name(naming.name)
    if naming.licence:
        writer.add_license(naming.licence)
    if naming.base:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, naming.base)
        if naming.base_url:
            writer.add_base_model_repo_url(0, naming.base_url)
    writer.add_tags(list(naming.tags))
    if "general.size_label" in reader.fields:
        writer.add_size_label(_text(reader, "general.size_label"))
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, field_ in reader.fields.items():
        if key.startswith("general.") or key in _AUTOMATIC:
            continue
        kind = field_.types[0]
        writer.add_key_value(
            key, field_.contents(), kind, field_.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        )


def _text(reader: Any, key: str) -> str:
    return str(reader.fields[key].contents())


def _rows_last(tensor: Any) -> tuple[int, ...]:
    """GGUF lists the row's length first; numpy's order has it last."""
    return tuple(int(size) for size in reversed(tensor.shape.tolist()))

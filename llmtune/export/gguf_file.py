"""Write the final GGUF file from the converter's float32 one, tensor by tensor, in the formats asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.export.formats import ALIGNMENT, FORMATS, format_of, tensor_bytes
from llmtune.export.ggml import quantize
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # GGUF tensor name, its float32 values → its packed blocks, or None: round it as usual
    Packer = Callable[[str, NDArray[np.float32]], NDArray[np.uint8] | None]

# Written by the library itself.
_AUTOMATIC = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.alignment")


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
    """What was written. kinds: format of every tensor; bytes: of the file; weights_with_importance: how many tensors
    were rounded with an importance; packed: how many took codes as they were."""

    kinds: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    weights_with_importance: int = 0
    packed: int = 0


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

    importance: GGUF tensor name → float32 (inputs,). Raises CannotRunHere naming the first tensor whose rows do not
    fit its format, before anything is written.
    """
    import gguf

    monitor = monitor or Monitor()
    reader = gguf.GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    written = Written()
    for name, tensor in tensors.items():
        shape = _rows_last(tensor)
        written.kinds[name] = format_of(name, shape, main, embeddings)
        tensor_bytes(name, shape, written.kinds[name])
    writer = gguf.GGUFWriter(None, arch=_text(reader, "general.architecture"))
    writer.data_alignment = ALIGNMENT
    _metadata(reader, writer, naming, FORMATS[main].file, gguf)
    for name, tensor in tensors.items():
        _declare(writer, name, _rows_last(tensor), written.kinds[name], gguf)
    writer.write_header_to_file(path=target)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with monitor.bar("rounding tensors", sum(int(tensor.n_elements) for tensor in tensors.values()), "weights") as bar:
        for name, tensor in tensors.items():
            monitor.safe_point()
            kind = written.kinds[name]
            values = tensor.data.reshape(_rows_last(tensor))
            packed = packer(name, values) if packer is not None else None
            weights = (importance or {}).get(name) if FORMATS[kind].block > 1 else None
            if packed is None:
                packed = quantize(values, kind, weights, name=name)
                written.weights_with_importance += weights is not None
            else:
                written.packed += 1
            writer.write_tensor_data(packed)
            bar.advance(int(tensor.n_elements))
    writer.close()
    written.bytes = target.stat().st_size
    return written


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

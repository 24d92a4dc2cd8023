"""ggml's own quantizer, called through ctypes from the shared object that the `xllamacpp` wheel carries."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.export.formats import FORMATS, tensor_bytes
from llmtune.extras import missing
from llmtune.machine import cpu_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VALUES_A_CHUNK = 1 << 22  # about 0.1 s of work; bounds what a thread holds


@cache
def library() -> Any:
    """The loaded shared object; raises MissingExtra without xllamacpp, CannotRunHere when it lacks the function."""
    spec = find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise missing("xllamacpp", "GGUF quantization")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so"))
    found += sorted(Path(spec.submodule_search_locations[0]).glob("xllamacpp*.pyd"))
    try:
        loaded = ctypes.CDLL(str(found[0]))
        loaded.ggml_quantize_chunk.restype = ctypes.c_size_t
    except (IndexError, OSError, AttributeError) as error:
        raise CannotRunHere(
            f"the installed xllamacpp does not offer ggml's quantizer ({error})",
            fix="install a wheel of xllamacpp built for this platform: pip install --force-reinstall xllamacpp",
        ) from error
    loaded.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_float),
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.POINTER(ctypes.c_float),
    ]
    loaded.ggml_quantize_init.argtypes = [ctypes.c_int]
    loaded.ggml_quantize_init.restype = None
    return loaded


def quantize(
    values: NDArray[np.float32], kind: str, importance: NDArray[np.float32] | None = None, *, name: str
) -> NDArray[np.uint8]:
    """Round a matrix to a format. values: float32 (…, rows, n); importance: float32 (n,), mean square of the inputs.

    Returns uint8 (…, rows, bytes of a row). Rows are independent, so the bytes do not depend on the number of threads.
    Raises CannotRunHere when the rows do not fit the format, BadArtifact when the values are not finite.
    """
    import numpy as np

    row_bytes = tensor_bytes(name, (values.shape[-1],), kind)
    if not np.isfinite(values).all():
        raise BadArtifact(
            "the tensor holds NaN or infinite values", where=name, fix="train again; this model is broken"
        )
    if kind == "f32":
        return np.ascontiguousarray(values, dtype=np.float32).view(np.uint8)
    row = values.shape[-1]
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, row)
    result = np.empty((flat.shape[0], row_bytes), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    if weights is not None and weights.shape != (row,):
        raise BadArtifact(f"importance of {weights.shape} for rows of {row}", where=name)
    loaded = library()
    loaded.ggml_quantize_init(FORMATS[kind].ggml)  # builds its tables once, before threads use them

    def chunk(first: int, last: int) -> None:
        loaded.ggml_quantize_chunk(
            FORMATS[kind].ggml,
            flat[first:last].ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            result[first:last].ctypes.data_as(ctypes.c_void_p),
            0,
            last - first,
            row,
            None if weights is None else weights.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        )

    step = max(1, _VALUES_A_CHUNK // row)
    starts = range(0, flat.shape[0], step)
    with ThreadPoolExecutor(cpu_threads()) as pool:
        for _ in pool.map(lambda first: chunk(first, min(first + step, flat.shape[0])), starts):
            pass
    return result.reshape(*values.shape[:-1], row_bytes)

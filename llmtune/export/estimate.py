"""What an export will need: exact bytes by arithmetic on shapes and formats, memory and time from measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmtune.export.formats import FORMATS, padded, planned_tensors, tensor_bytes

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape

# A token's string, type and merge in a GGUF header: 35 bytes on average over SmolLM2's and Qwen2's vocabularies.
_HEADER_BYTES_A_TOKEN = 35
_HEADER_BYTES_A_TENSOR = 64
_LIBRARIES = 750 << 20  # Python with torch, transformers, gguf
_LLAMA = 70 << 20  # llama.cpp's process beside its weights and its cache
_LLAMA_EXACT = (600, 4)  # tokens of its context when predictions are compared, and bytes of a number of its cache
_PAPERS = 64 << 10  # card and proof
# Measured on two cores: processes and imports, then reading, rounding, loading and comparing.
_START_SECONDS = 20.0
_PARAMETERS_PER_SECOND = 8e6


@dataclass(frozen=True)
class Estimate:
    """bytes of the bundle; memory and disk at their peak in bytes; seconds."""

    bytes: int
    memory: int
    disk: int
    seconds: float


def gguf_bytes(shape: ModelShape, main: str, embeddings: str) -> int:
    """Bytes of the GGUF file: its tensors exactly, its header about. Raises CannotRunHere, naming the first tensor
    whose rows the format does not fit."""
    tensors = list(planned_tensors(shape.tensors, shape.config, main, embeddings))
    data = sum(padded(tensor_bytes(name, size, kind)) for name, size, kind in tensors)
    return data + len(tensors) * _HEADER_BYTES_A_TENSOR + shape.vocab_size * _HEADER_BYTES_A_TOKEN


def memory_of_llama(shape: ModelShape, size: int, context: int, cache_bytes: int = 2) -> int:
    """Peak bytes of llama.cpp's process with a GGUF file of `size` bytes and the keys and values of `context` tokens,
    each a number of `cache_bytes`."""
    keys_and_values = 2 * shape.layers * shape.kv_heads * shape.head_dim
    return _LLAMA + size + keys_and_values * context * cache_bytes


def estimate_gguf(shape: ModelShape, main: str, embeddings: str, *, repack: bool, importance_tokens: int) -> Estimate:
    """Of an export to GGUF; raises as `gguf_bytes` does."""
    size = gguf_bytes(shape, main, embeddings)
    parameters, largest = shape.parameters, max(math.prod(one) for one in shape.tensors.values())
    # The checkpoint in float32, a tensor of it three times over (packed, unpacked, put in order), and the file twice:
    # read by us and loaded by llama.cpp.
    memory = _LIBRARIES + 4 * parameters + 12 * largest + size + memory_of_llama(shape, size, *_LLAMA_EXACT)
    importance = importance_tokens if FORMATS[main].block > 1 else 0
    seconds = _START_SECONDS + parameters / _PARAMETERS_PER_SECOND + importance * 2 * parameters / 2e11
    return Estimate(
        bytes=size + _PAPERS,
        memory=memory + (parameters if repack else 0),
        disk=size + _PAPERS + (8 if repack else 4) * parameters,
        seconds=seconds,
    )


def estimate_copy(shape: ModelShape, size: int, *, with_base: bool) -> Estimate:
    """Of an export for transformers. size: bytes of the bundle; with_base: an adapter, verified on its base."""
    weights = 4 * shape.parameters
    return Estimate(
        bytes=size + _PAPERS,
        memory=2 * _LIBRARIES + weights + (shape.bytes if with_base else 0),
        disk=size + _PAPERS,
        seconds=_START_SECONDS + shape.parameters / (2 * _PARAMETERS_PER_SECOND),
    )


def adapter_bytes(shape: ModelShape, settings: Mapping[str, Any]) -> int:
    """Bytes of an adapter with these settings (those of a train stage's `adapter:`), in fp32."""
    from llmtune.models.adapters import AdapterSettings, adapter_parameters

    return 4 * adapter_parameters(AdapterSettings.model_validate(settings), shape)

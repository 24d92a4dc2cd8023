"""The memory that measuring a model and asking it take, from its shape. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from llmtune.compress.grid import nf4_bytes
from llmtune.export.estimate import memory_of_llama
from llmtune.machine import Machine
from llmtune.models.gguf_header import READ_BACK_BYTES
from llmtune.models.shape import ModelShape

# Python with torch, transformers and a tokenizer, when a model has run: SmolLM2-135M less its weights.
LIBRARIES = 450 << 20
ANSWER_CONTEXT = 2048  # tokens that a prompt and its answer may have together in llama.cpp
BATCH_TOKENS = 4096  # tokens scored together, padding included: full speed on a CPU, little memory
LOGITS_BYTES = 96 << 20  # of the continuations of one batch, in fp32


def memory_to_run(shape: ModelShape, machine: Machine) -> int:
    """Peak bytes of the process that loads a Hugging Face model as `load_to_run` does, and generates with it."""
    return LIBRARIES + _weights(shape, machine)[0]


def memory_to_answer(shape: ModelShape, machine: Machine, gguf_bytes: int | None) -> int:
    """Of the process that answers prompts: llama.cpp's for a GGUF file of so many bytes; None: that of transformers."""
    if gguf_bytes is None:
        return memory_to_run(shape, machine)
    context = min(ANSWER_CONTEXT, shape.context_length or ANSWER_CONTEXT)
    return memory_of_llama(shape, gguf_bytes, context)


def memory_to_score(shape: ModelShape, machine: Machine, *, gguf: bool) -> int:
    """Of the process that scores texts: a batch of them and a chunk of its logits beside the weights. gguf: they are
    read back from such a file into a bf16 checkpoint first."""
    width = _width(machine)
    batch = BATCH_TOKENS * (12 * shape.hidden_size + 4 * shape.intermediate_size) * width
    logits = LOGITS_BYTES * (4 + 4 + width) // 4  # in fp32, their logarithms, and as the head gives them
    passing = (batch + logits) * 5 // 4  # the heap cannot use all of what was freed again
    if gguf:
        config = {name: value for name, value in shape.config.items() if name != "quantization_config"}
        shape = replace(shape, config=config, bytes=2 * shape.parameters)
    loading, standing = _weights(shape, machine)
    reading = READ_BACK_BYTES * shape.parameters if gguf else 0
    return LIBRARIES + max(reading, loading, standing + passing)


def _weights(shape: ModelShape, machine: Machine) -> tuple[int, int]:
    """Bytes of the weights while they are loaded, and from then on. Those that are computed with as they are stored are
    the file's own pages; others stand beside them, until nothing is used as it is stored."""
    quantization = shape.config.get("quantization_config") or {}
    converted = _width(machine) * shape.parameters
    if quantization.get("load_in_4bit") or quantization.get("load_in_8bit"):  # bitsandbytes computes with its codes
        both = shape.bytes
        if quantization.get("load_in_4bit") and not machine.computes_in_bf16:  # what is no code is read as fp32
            codes = nf4_bytes(shape.parameters, 1)  # if all were codes; what else is stored takes 2 bytes a weight
            wide = max(0, shape.bytes - codes) / (2 - codes / shape.parameters)
            both += round(4 * wide)
        return both, both
    if not machine.computes_in_bf16:
        return shape.bytes + converted, converted
    both = shape.bytes + (converted if quantization else 0)
    return both, both


def _width(machine: Machine) -> int:
    """Bytes of a number in computing."""
    return 2 if machine.computes_in_bf16 else 4

"""The header of a GGUF file: metadata and tensor shapes, in a tenth of a second. Imports no torch and no gguf.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact
from llmtune.models.safetensors_header import AGAIN
from llmtune.models.shape import ModelShape

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
READ_BACK_BYTES = 4 + 2  # of a weight while a file is read back into a checkpoint: it stands in fp32 and in bf16
# (weights, bytes) of a block by ggml type number: ggml's block structures (ggml-common.h).
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98),
    19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the weights.

    metadata: key → value; of an array only its length, unless its contents were asked for
    tensors:  GGUF name → shape, rows first as in PyTorch
    """

    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the family."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def context_length(self) -> int | None:
        """Most tokens that the model was made for; None where the file does not say."""
        value = self.number("context_length")
        return int(value) if value else None

    def number(self, key: str) -> Any:
        """A value of the family's own block of metadata (`llama.block_count`), or None."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_gguf_header(file: Path, *, arrays: bool = False) -> GgufHeader:
    """Parse the header; `arrays`: with the contents of arrays (the vocabulary) instead of their lengths.

    Raises BadArtifact when the file is not GGUF, is damaged, ends before its last tensor, or is one part of several.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Parser(data, arrays).header()
    except (OSError, ValueError, struct.error, LookupError, TypeError, ArithmeticError, MemoryError) as error:
        raise BadArtifact(f"not a whole GGUF file: {error}", where=str(file), fix=AGAIN) from error
    parts = header.metadata.get("split.count") or 1
    if parts != 1:
        raise BadArtifact(
            f"one of the {parts} parts of a split model; a model is read from one file",
            where=str(file),
            fix="join them first: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf",
        )
    return header


class _Parser:
    def __init__(self, data: mmap.mmap, arrays: bool) -> None:
        self.data = data
        self.arrays = arrays
        self.at = 0

    def header(self) -> GgufHeader:
        if self.data[:4] != b"GGUF":
            raise ValueError("it does not start with the letters GGUF")
        self.at = 4
        version, tensors, keys = self.take("<IQQ")
        if version not in (2, 3):
            raise ValueError(f"version {version} of the format; 2 and 3 are known")
        metadata = {self.string(): self.value() for _ in range(keys)}
        shapes: dict[str, tuple[int, ...]] = {}
        end = 0
        for _ in range(tensors):
            name = self.string()
            (dimensions,) = self.take("<I")
            sizes = self.take(f"<{dimensions}Q")
            kind, offset = self.take("<IQ")
            shapes[name] = tuple(reversed(sizes))
            weights = 1
            for size in sizes:
                weights *= size
            block, stored = BLOCKS.get(kind, (1, 0))
            end = max(end, offset + weights // block * stored)
        alignment = int(metadata.get("general.alignment", 32))
        end += -(-self.at // alignment) * alignment
        if end > len(self.data):
            raise ValueError(f"truncated: {len(self.data):,} bytes, its tensors end at byte {end:,}")
        return GgufHeader(metadata, shapes)

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self) -> str:
        (length,) = self.take("<Q")
        if length > len(self.data) - self.at:
            raise ValueError("truncated in its header")
        text = self.data[self.at : self.at + length].decode("utf-8", "replace")
        self.at += length
        return text

    def value(self) -> Any:
        (kind,) = self.take("<I")
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.take("<" + _SCALARS[kind])[0]
        inner, count = self.take("<IQ")
        if self.arrays and inner != _ARRAY:
            return (
                [self.string() for _ in range(count)]
                if inner == _STRING
                else list(self.take(f"<{count}{_SCALARS[inner]}"))
            )
        if inner == _STRING:
            self._skip_strings(count)
        elif inner == _ARRAY:
            raise ValueError("nested arrays in its metadata")
        else:
            self.at += count * struct.calcsize("<" + _SCALARS[inner])
        return count

    def _skip_strings(self, count: int) -> None:
        """Step over a vocabulary; written flat because it is the only loop that takes time."""
        at, data, length_of = self.at, self.data, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_of(data, at)[0]
        self.at = at


_BLOCK_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_GPT2_NAMES = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}  # fmt: skip
_MODEL_TYPES = {"gemma3": "gemma3_text", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "command-r": "cohere"}


def gguf_shape(header: GgufHeader) -> ModelShape:
    """The shape of the Hugging Face checkpoint (bf16) that a GGUF file becomes.

    Families outside the Llama, Gemma and GPT-2 layouts keep their GGUF tensor names; the counts are right all the same.
    """
    tensors = {
        _hugging_face_name(name, header.architecture): _hugging_face_shape(name, shape, header.architecture)
        for name, shape in header.tensors.items()
        if not name.startswith("rope_f")  # tables derived from the configuration, no weights
    }
    family = _MODEL_TYPES.get(header.architecture, header.architecture)
    config: dict[str, Any] = {"model_type": family, "tie_word_embeddings": "output.weight" not in header.tensors}
    fields = {
        "hidden_size": "embedding_length", "num_hidden_layers": "block_count", "intermediate_size":
        "feed_forward_length", "num_attention_heads": "attention.head_count", "num_key_value_heads":
        "attention.head_count_kv", "max_position_embeddings": "context_length", "head_dim": "attention.key_length",
        "final_logit_softcapping": "final_logit_softcapping", "attn_logit_softcapping": "attn_logit_softcapping",
        "sliding_window": "attention.sliding_window",
    }  # fmt: skip
    config |= {name: header.number(key) for name, key in fields.items() if header.number(key) is not None}
    embedding = header.tensors.get("token_embd.weight")
    if embedding:
        config["vocab_size"] = embedding[0]
    shape = ModelShape(config, tensors, 0)
    return ModelShape(config, tensors, 2 * shape.parameters)


def _hugging_face_name(name: str, architecture: str) -> str:
    stem, _, end = name.rpartition(".")
    gpt2 = architecture == "gpt2"
    tops = {
        "token_embd": "transformer.wte" if gpt2 else "model.embed_tokens",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f" if gpt2 else "model.norm",
        "output": "lm_head",
    }
    if stem in tops:
        return f"{tops[stem]}.{end}"
    if stem.startswith("blk."):
        _, number, part = stem.split(".", 2)
        inner = (_GPT2_NAMES if gpt2 else _BLOCK_NAMES).get(part)
        if part == "ffn_norm" and architecture.startswith("gemma") and architecture != "gemma":
            inner = "pre_feedforward_layernorm"
        if inner:
            return f"{'transformer.h' if gpt2 else 'model.layers'}.{number}.{inner}.{end}"
    return name


def _hugging_face_shape(name: str, shape: tuple[int, ...], architecture: str) -> tuple[int, ...]:
    conv1d = architecture == "gpt2" and name.startswith("blk.") and len(shape) == 2  # stored transposed by GPT-2
    return tuple(reversed(shape)) if conv1d else shape

"""llama.cpp's number formats: their blocks, which tensors take them, and how many bytes a model will have.

Which tensors stay in full precision follows llama.cpp's own quantizer (`tensor_allows_quantization` in
src/llama-quant.cpp).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from llmtune.errors import CannotRunHere
from llmtune.models.families import CONV1D_FAMILIES
from llmtune.models.gguf_header import BLOCKS

GgufType = Literal[
    "f32", "f16", "bf16", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1", "iq4_nl",
    "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs",
]  # fmt: skip
GGUF_TYPES: tuple[str, ...] = get_args(GgufType)
# llama.cpp's code for these asks for an output head of its own, where others take the token embedding.
UNTIED_FAMILIES = frozenset({"qwen2_moe"})
ALIGNMENT = 32  # bytes between tensors, GGUF's default


@dataclass(frozen=True)
class Format:
    """One number format.

    ggml:     its id in ggml's enum
    file:     id of a file made of it (llama.cpp's `llama_ftype`), for `general.file_type`
    error:    relative error (Frobenius) that a rounded weight matrix of a trained model may have at most; about twice
              what normally distributed weights give, since real rows have outliers
    """

    name: str
    ggml: int
    file: int
    error: float

    @property
    def block(self) -> int:
        """Values in a block; a row must hold whole blocks."""
        return BLOCKS[self.ggml][0]

    @property
    def bytes(self) -> int:
        """Bytes of one block."""
        return BLOCKS[self.ggml][1]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / self.block


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format("f32", 0, 0, 1e-5),
        Format("f16", 1, 1, 2e-3),
        Format("bf16", 30, 32, 4e-3),
        Format("q8_0", 8, 7, 0.02),
        Format("q6_k", 14, 18, 0.05),
        Format("q5_0", 6, 8, 0.10),
        Format("q5_1", 7, 9, 0.10),
        Format("q5_k", 13, 16, 0.09),
        Format("q4_0", 2, 2, 0.20),
        Format("q4_1", 3, 3, 0.20),
        Format("iq4_nl", 20, 25, 0.20),
        Format("iq4_xs", 23, 30, 0.20),
        Format("q4_k", 12, 14, 0.18),
        Format("q3_k", 11, 11, 0.35),
        Format("q2_k", 10, 10, 0.60),
    )
}
BY_GGML = {found.ggml: found for found in FORMATS.values()}

# GGUF names of matrices that are never rounded: tiny, and read as float32 by llama.cpp's code.
_ALWAYS_F32 = re.compile(
    r"_norm\.weight$|^(position_embd|token_types)\.|ffn_gate_inp|ssm_(conv1d|x|dt)|shortconv|time_mix_|"
    r"altup_(correct|predict)|indexer\.proj|attn_rel_b|rope_(freqs|factors)"
)
# The same by Hugging Face names, for a plan that has no GGUF yet.
_ALWAYS_F32_HF = re.compile(
    r"norm\w*\.weight$|(^|\.)wpe\.|(mlp|block_sparse_moe|moe)\.(gate|router|shared_expert_gate)\.|router\.|conv1d"
)
EMBEDDINGS = ("token_embd.weight", "output.weight")
_EMBEDDINGS_HF = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out)\.weight$")
# transformers' Conv1D keeps (in, out); its GGUF rows are the inputs.
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")


def embedding_format(main: str, embeddings: str | None) -> str:
    """The format of the token embedding and output head: as set, else Q8_0 beside a quantized format, else the same."""
    if embeddings is not None:
        return embeddings
    return "q8_0" if FORMATS[main].block > 1 else main


def format_of(name: str, shape: tuple[int, ...], main: str, embeddings: str) -> str:
    """The format of one GGUF tensor. shape: rows last (numpy order)."""
    if len(shape) < 2 or not name.endswith(".weight") or _ALWAYS_F32.search(name):
        return "f32"
    return embeddings if name in EMBEDDINGS else main


def tensor_bytes(name: str, shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor of `shape` in a format; raises CannotRunHere, naming the tensor, when its rows do not fit."""
    chosen = FORMATS[kind]
    if shape[-1] % chosen.block:
        raise CannotRunHere(
            f"{kind} stores blocks of {chosen.block} values, but the rows of this tensor have {shape[-1]}",
            where=name,
            fix=f"types that fit these rows: {', '.join(fitting(shape[-1]))}",
        )
    return math.prod(shape) // chosen.block * chosen.bytes


def fitting(row: int) -> list[str]:
    """The formats whose blocks fit a row of this many values."""
    return [name for name in GGUF_TYPES if row % FORMATS[name].block == 0]


def planned_tensors(
    tensors: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], main: str, embeddings: str
) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """(name, shape with rows last, format) of each tensor of the GGUF file, from a checkpoint's names and shapes.

    A tied output head is not stored: the file's readers use the token embedding, but for UNTIED_FAMILIES.
    """
    tied = bool(config.get("tie_word_embeddings", False))
    for name, shape in tensors.items():
        if name.endswith("lm_head.weight") and tied:
            continue
        if name.endswith("embed_tokens.weight") and tied and config.get("model_type") in UNTIED_FAMILIES:
            yield "lm_head.weight", shape, embeddings
        if len(shape) < 2 or not name.endswith(".weight") or _ALWAYS_F32_HF.search(name):
            # Stacked experts of transformers 5 (`mlp.experts.gate_up_proj`) are weights without the suffix.
            stacked = len(shape) == 3 and ".experts." in name
            yield name, shape, main if stacked else "f32"
        elif _EMBEDDINGS_HF.search(name):
            yield name, shape, embeddings
        elif config.get("model_type") in CONV1D_FAMILIES and _CONV1D.search(name):
            yield name, shape[::-1], main
        else:
            yield name, shape, main


def padded(size: int) -> int:
    """`size` rounded up to the alignment of GGUF tensors."""
    return math.ceil(size / ALIGNMENT) * ALIGNMENT

"""How much memory a training will need, counted from the model's shape. Imports no torch.

For P weights of which T are trained, on one device:

    all weights:  fp32 weights, gradients and two moments, 16 T, and the copies in bf16 that autocast makes of them, 2 P
    adapter:      the frozen weights in the products' format (NF4: 0.56 P) and 16 T
    teacher:      its weights in the products' format, and its logits of a chunk
    activations:  of one micro-batch, see `_activation_bytes`; with gradient checkpointing one layer and the borders
    loss:         logits of one chunk and the head's gradients, see `_head_bytes`

What the ranks of a launch divide among them is in `_state`. The copies in bf16 are made of whole weights also where
these are spread: they are kept for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtune.models.families import attention_to_use
from llmtune.models.moe.target import active_width
from llmtune.training.launch import Launch
from llmtune.training.settings import CHUNK_BYTES, TrainSettings

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape

LIBRARIES = 700 << 20  # bytes: Python, torch, transformers, peft after their first step
DEEPSPEED_LIBRARIES = 250 << 20
NF4_BYTES = 0.56  # of a weight, scales included
BUCKET = 5 * 10**8  # gradients that DeepSpeed collects before it shares them
LIVE = 10**9  # weights that ZeRO-3 keeps gathered at once


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank beside its libraries. device: while it trains, where it computes; host: what stays in host
    memory meanwhile; saving: what rank 0 needs of host memory after it, to make the checkpoint."""

    device: int
    host: int
    saving: int


def rank_memory(
    settings: TrainSettings, shape: ModelShape, trained: int, launch: Launch, device: str, teacher: ModelShape | None
) -> RankMemory:
    """Of training `trained` weights of a model of `shape` on a `device` (cpu or cuda); settings with the precision
    chosen."""
    narrow = settings.precision != "fp32"
    state, host = _state(settings, shape, trained, launch)
    copies = 2 * trained if settings.adapter or narrow else 0
    passes = copies + _head_bytes(settings, shape, device) + _activation_bytes(settings, shape)
    passes += _teacher_bytes(settings, teacher, device) if teacher else 0
    saved = (4 if settings.adapter is None or not narrow else 2) * shape.parameters + 2 * shape.parameters + 4 * trained
    return RankMemory(device=state + passes, host=host, saving=saved)


def _state(settings: TrainSettings, shape: ModelShape, trained: int, launch: Launch) -> tuple[int, int]:
    """Bytes of weights, gradients and moments of a rank, on its device and in host memory.

    DeepSpeed keeps its part of the weights twice, the one that is updated and the one that the passes read, and whole
    gradients or gathered weights up to a bucket. FSDP gathers two layers and what is in none, with their gradients.
    """
    frozen = _frozen_bytes(settings, shape)
    if not launch.library:
        return int(frozen + 16 * trained), 0
    own = 16 * trained / launch.processes  # the weights that are updated, their gradients and moments
    if launch.library == "fsdp":
        outside = shape.vocab_size * shape.hidden_size * (1 if shape.tied else 2) / shape.parameters
        at_once = outside + (1 - outside) * min(1.0, 2 / shape.layers)
        if launch.spread == 3:
            return int(own + frozen / launch.processes + at_once * (8 * trained + frozen)), 0
        return int(own + 4 * trained * (1 + at_once) + frozen), 0
    if launch.spread == 3:
        read = (4 * trained + frozen) / launch.processes
        working = min(4 * trained + frozen, 4 * LIVE) + 4 * min(trained, BUCKET)
    else:
        read = 4 * trained + frozen
        working = 4 * (trained if launch.spread == 1 else min(trained, 2 * BUCKET))
    host = (own if launch.offload_state else 0) + (read if launch.offload_weights else 0)
    return int(own + read + working - host), int(host)


def _frozen_bytes(settings: TrainSettings, shape: ModelShape) -> float:
    """The weights under an adapter, all of them."""
    if settings.adapter is None:
        return 0.0
    narrow, embedding = settings.precision != "fp32", shape.vocab_size * shape.hidden_size
    stored = {"qlora": NF4_BYTES}.get(settings.adapter.type, 2.0 if narrow else 4.0)
    return stored * (shape.parameters - embedding) + (2 if narrow else 4) * embedding


def _teacher_bytes(settings: TrainSettings, teacher: ModelShape, device: str) -> int:
    """A teacher's weights, what one of its layers makes of a micro-batch, and its logits of a chunk in fp32 with the
    three more that the objective makes of both models'."""
    width = 2 if settings.precision != "fp32" else 4
    rows = min(settings.micro_batch, settings.batch_rows)
    layer = rows * settings.row_tokens * width * (6 * teacher.hidden_size + 3 * teacher.intermediate_size)
    return width * teacher.parameters + layer + 4 * max(CHUNK_BYTES[device], 64 * teacher.vocab_size)


def _head_bytes(settings: TrainSettings, shape: ModelShape, device: str) -> int:
    """What the output head makes of a chunk of positions: logits and their gradient and, where it is trained, its own
    gradient in fp32, of the chunk beside that of the chunks before, and under autocast in bf16 too.

    On a CPU these largest of all blocks come and go between those of the passes, in a heap that is never trimmed
    (llmtune/heap.py). The places they leave are taken by smaller ones, so that it grows to about twice of them: by 1 GB
    within 60 steps with SmolLM2's vocabulary.
    """
    logits = max(CHUNK_BYTES[device], 64 * shape.vocab_size)
    gradients = 0
    if settings.adapter is None:
        gradients = (8 if settings.precision == "fp32" else 10) * shape.vocab_size * shape.hidden_size
    return (2 * logits + gradients) * (2 if device == "cpu" else 1)


def _activation_bytes(settings: TrainSettings, shape: ModelShape) -> int:
    """What the forward pass of a micro-batch keeps for the backward pass.

    A decoder layer keeps about 8 widths of its hidden state in the residual's format and the inputs of its products;
    with all weights trained the residual stream is fp32, over frozen bf16 weights it is bf16.
    """
    hidden, inner, heads = shape.hidden_size, active_width(shape), shape.heads * shape.head_dim
    key_value = shape.kv_heads * shape.head_dim
    width = 2 if settings.precision != "fp32" else 4  # of the products
    if settings.adapter is None:
        a_token = 28 * hidden + width * (3 * heads + 3 * key_value + hidden) + 4 * width * inner
    else:
        a_token = 20 * hidden + width * (6 * heads + 3 * key_value + 4 * hidden) + 5 * width * inner
        if settings.adapter.type == "dora":  # the outputs once more, for the gradient of their magnitudes
            a_token += width * (heads + 2 * key_value + 2 * hidden + 2 * inner)
    rows = min(settings.micro_batch, settings.batch_rows)
    kept = shape.layers * a_token * rows * settings.row_tokens
    if attention_to_use(shape.config) == "eager":
        kept += shape.layers * rows * shape.heads * settings.row_tokens**2 * 3 * width
    if settings.gradient_checkpointing:
        borders = shape.layers * rows * settings.row_tokens * hidden
        kept = kept // shape.layers + borders * (2 if settings.adapter else 4)
    return int(kept)


def loading_bytes(settings: TrainSettings, shape: ModelShape) -> int:
    """Host memory of the model before it goes to a GPU."""
    return (2 if settings.adapter and settings.precision != "fp32" else 4) * shape.parameters


def rows_bytes(tokens: dict[str, int]) -> int:
    """Host memory while a corpus is tokenized, a part at a time."""
    return min(sum(tokens.values()) * 12, 400 << 20)

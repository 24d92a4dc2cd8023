"""What a training will need, from the model's shape and the corpus' size alone. Imports no torch, loads no weights.

Memory counts, for P weights of which T are trained:

    all weights:  fp32 weights, gradients and two moments, 16 T, and the copies in bf16 that autocast makes of them, 2 P
    adapter:      the frozen weights in the products' format (NF4: 0.56 P) and 16 T
    activations:  of one micro-batch, see `_activation_bytes`; with gradient checkpointing one layer and the borders
    loss:         logits of one chunk and the head's gradients, see `_head_bytes`
    libraries:    Python, torch, transformers

The constants were measured with SmolLM2-135M on a CPU (docs/training.md says how far the estimates were off).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtune.extras import have, missing
from llmtune.machine import Accelerator, Machine
from llmtune.models.adapters import adapter_parameters
from llmtune.models.families import attention_to_use, stays_inside_documents
from llmtune.models.load import cannot_train
from llmtune.training.launch import Launch
from llmtune.training.precision import chosen_precision, precision_note, precision_problem
from llmtune.training.settings import CHUNK_BYTES, TrainSettings, count_steps

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape

LIBRARIES = 700 << 20  # bytes: Python, torch, transformers, peft after their first step
DEEPSPEED_LIBRARIES = 250 << 20
NF4_BYTES = 0.56  # of a weight, scales included
ROW_CACHE_BYTES = 3.2  # of a token on disk: id, target flag, places
OTHER_FILES = 8 << 20  # bytes on disk: tokenizer, configuration, history
# Sustained floating-point operations a second in training.
CPU_CORE_RATE = {"bf16": 185e9, "fp32": 80e9, "bf16 without instructions": 25e9}
GPU_RATE = {(8, 0): 110e12, (8, 6): 35e12, (8, 9): 60e12, (9, 0): 280e12, (7, 0): 40e12, (7, 5): 20e12}
START_SECONDS = 15.0


@dataclass(frozen=True)
class Estimate:
    """See `Plan`; `bytes` is the size of the checkpoint that is made (0: unknown)."""

    bytes: int = 0
    memory: int = 0
    disk: int = 0
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def estimate(
    settings: TrainSettings, shape: ModelShape | None, tokens: dict[str, int], machine: Machine, launch: Launch | None
) -> Estimate:
    """Of training a model of `shape` on a corpus with `tokens` by split, on this machine."""
    problems = _problems(settings, machine, launch)
    notes = [note for note in (precision_note(settings.precision, settings.device, machine),) if note]
    precision = chosen_precision(settings.precision, settings.device, machine)
    settings = settings.model_copy(update={"precision": precision})
    if shape is None:
        return Estimate(notes=tuple(notes), problems=tuple(problems))
    if quantized := cannot_train(shape.config, "the base model"):
        problems.append(str(quantized))
    if problem := row_problem(settings.row_tokens, shape):
        problems.append(problem)
    elif shape.context_length and settings.row_tokens > shape.context_length:
        notes.append(f"row_tokens {settings.row_tokens} is more than the {shape.context_length} the model was made for")
    if not stays_inside_documents(shape.config):
        notes.append("this family cannot be kept inside a document: one document a row, shorter ones padded")
    if tokens and not tokens.get("train"):
        problems.append("the corpus' train split is empty")
    trained = adapter_parameters(settings.adapter, shape) if settings.adapter else shape.parameters
    launch = launch or Launch(identity="")
    on_gpu = _gpus(settings, machine)
    each = _rank_memory(settings, shape, trained, launch, "cuda" if on_gpu else "cpu")
    if on_gpu:
        problem = _gpu_problem(each, on_gpu, launch.here)
        problems += [problem] if problem else []
        memory = launch.here * (2 * LIBRARIES + _loading_bytes(settings, shape))
    else:
        memory = launch.here * (LIBRARIES + (DEEPSPEED_LIBRARIES if launch.deepspeed else 0) + each)
    memory += _rows_bytes(tokens)
    size = 2 * shape.parameters + OTHER_FILES + (4 * trained if settings.adapter else 0)
    return Estimate(
        bytes=size,
        memory=memory,
        disk=_disk(settings, size, trained, tokens),
        seconds=_seconds(settings, shape, trained, tokens, machine, launch),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def row_problem(row_tokens: int, shape: ModelShape) -> str | None:
    """Why rows of so many tokens do not go into a model with a table of positions; None when they do."""
    tables = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")
    positions = min((size[0] for name, size in shape.tensors.items() if name.endswith(tables)), default=row_tokens)
    if row_tokens <= positions:
        return None
    return f"row_tokens {row_tokens} is more than the {positions} positions that this model has weights for; lower it"


def _rank_memory(settings: TrainSettings, shape: ModelShape, trained: int, launch: Launch, device: str) -> int:
    """Bytes of one rank beside its libraries, in training or in saving what came of it. device: cpu or cuda."""
    parameters, embedding = shape.parameters, shape.vocab_size * shape.hidden_size
    narrow = settings.precision != "fp32"
    parts = launch.processes if launch.zero_stage else 1
    if settings.adapter is None:
        state = 16 * trained
        if launch.zero_stage:  # whole weights (3: a part), whole gradients while they are made, a part of the rest
            state = int((4 if launch.zero_stage < 3 else 4 / parts) * trained + 4 * trained + 16 * trained / parts)
        transient = 2 * parameters if narrow else 0
    else:
        stored = {"qlora": NF4_BYTES}.get(settings.adapter.type, 2.0 if narrow else 4.0)
        frozen = stored * (parameters - embedding) + (2 if narrow else 4) * embedding
        state = int(frozen / (parts if launch.zero_stage == 3 else 1)) + 16 * trained
        transient = 2 * trained
    loss = _head_bytes(settings, shape, device)
    saving = (4 if settings.adapter is None or not narrow else 2) * parameters + 2 * parameters + 4 * trained
    return max(state + transient + loss + _activation_bytes(settings, shape), saving)


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
    hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.heads * shape.head_dim
    key_value = shape.kv_heads * shape.head_dim
    width = 2 if settings.precision != "fp32" else 4  # of the products
    if settings.adapter is None:
        a_token = 28 * hidden + width * (3 * heads + 3 * key_value + hidden) + 4 * width * inner
    else:
        a_token = 20 * hidden + width * (6 * heads + 3 * key_value + 4 * hidden) + 5 * width * inner
    rows = min(settings.micro_batch, settings.batch_rows)
    kept = shape.layers * a_token * rows * settings.row_tokens
    if attention_to_use(shape.config) == "eager":
        kept += shape.layers * rows * shape.heads * settings.row_tokens**2 * 3 * width
    if settings.gradient_checkpointing:
        borders = shape.layers * rows * settings.row_tokens * hidden
        kept = kept // shape.layers + borders * (2 if settings.adapter else 4)
    return int(kept)


def _loading_bytes(settings: TrainSettings, shape: ModelShape) -> int:
    """Host memory of the model before it goes to a GPU."""
    return (2 if settings.adapter and settings.precision != "fp32" else 4) * shape.parameters


def _rows_bytes(tokens: dict[str, int]) -> int:
    """Host memory while a corpus is tokenized, a part at a time."""
    return min(sum(tokens.values()) * 12, 400 << 20)


def _disk(settings: TrainSettings, size: int, trained: int, tokens: dict[str, int]) -> int:
    """The most that stands on the disk: two checkpoints with moments while one replaces the other and, where they are
    older, the best weights; or the result beside the last weights."""
    rows = int(ROW_CACHE_BYTES * (tokens.get("train", 0) + tokens.get("valid", 0)))
    best = 4 if tokens.get("valid") and settings.validation.keep == "best" else 0
    return max((24 + best) * trained, size + 8 * trained) + rows


def _seconds(
    settings: TrainSettings,
    shape: ModelShape,
    trained: int,
    tokens: dict[str, int],
    machine: Machine,
    launch: Launch,
) -> float | None:
    """Seconds of training and validation; None where the speed of the device is not known."""
    in_train = tokens.get("train", 0)
    if not in_train:
        return None
    rows = max(1, math.ceil(in_train / settings.row_tokens))
    steps = count_steps(settings, rows, in_train)
    steps_tokens = steps.total * settings.batch_rows * min(settings.row_tokens, in_train / rows)
    validations = math.ceil(steps.total / steps.validate) if tokens.get("valid") else 0
    valid_tokens = validations * min(tokens.get("valid", 0), settings.validation.rows * settings.row_tokens)
    rate = _rate(settings, machine, launch)
    if rate is None:
        return None
    # forward 2, gradient of activations 2, gradient of weights 2 operations a weight and token
    passes = 4 if settings.adapter else 6
    passes += 2 if settings.gradient_checkpointing else 0
    products = shape.parameters - (0 if shape.tied else shape.vocab_size * shape.hidden_size)
    attention = shape.layers * shape.heads * shape.head_dim * settings.row_tokens
    slower = 1.35 if settings.adapter and passes <= 6 else 1.0  # small products and the copies between formats
    if settings.adapter and settings.adapter.type == "qlora":
        slower *= 1.25
    work = (products + attention) * (passes * slower * steps_tokens + 2 * slower * valid_tokens) + 2 * trained
    return START_SECONDS + work / rate


def _rate(settings: TrainSettings, machine: Machine, launch: Launch) -> float | None:
    """Operations a second of all devices together."""
    gpus = _gpus(settings, machine)
    if gpus:
        known = [GPU_RATE.get(gpu.capability) for gpu in gpus[: launch.processes]]
        if any(rate is None for rate in known):
            return None
        return sum(rate for rate in known if rate) * (0.25 if settings.precision == "fp32" else 1.0)
    kind = "fp32" if settings.precision == "fp32" else "bf16"
    if kind == "bf16" and not machine.cpu_has_bf16:
        kind = "bf16 without instructions"
    return machine.cores * CPU_CORE_RATE[kind]


def _gpus(settings: TrainSettings, machine: Machine) -> tuple[Accelerator, ...]:
    return machine.accelerators if settings.device != "cpu" else ()


def _gpu_problem(each: int, gpus: tuple[Accelerator, ...], ranks: int) -> str | None:
    least = min(gpu.memory for gpu in gpus[:ranks])
    if each <= 0.92 * least:
        return None
    return (
        f"training needs about {each / 1e9:.1f} GB on each GPU, {gpus[0].name} has {least / 1e9:.1f} GB; "
        "lower micro_batch, set gradient_checkpointing: true, train an adapter, or launch with ZeRO-2 or ZeRO-3"
    )


def _problems(settings: TrainSettings, machine: Machine, launch: Launch | None) -> list[str]:
    """Why this training cannot work here."""
    problems = []
    deepspeed = launch is not None and launch.deepspeed
    problem = precision_problem(settings.precision, settings.device, machine, deepspeed=deepspeed)
    if problem:
        problems.append(problem)
    if settings.adapter is not None and settings.adapter.type == "qlora":
        if not have("bitsandbytes"):
            problems.append(str(missing("bitsandbytes", "adapter type qlora")))
        if launch is not None and launch.zero_stage == 3:
            problems.append("adapter type qlora does not go with ZeRO-3 (4-bit weights cannot be spread); use ZeRO-2")
    if launch is None:
        return problems
    if launch.problem:
        problems.append(launch.problem)
    if deepspeed and not have("deepspeed"):
        problems.append(str(missing("deepspeed", "this launch configuration")))
    if launch.gpus and len(machine.accelerators) < launch.here:
        problems.append(
            f"launch: {launch.here} GPUs are asked for, this machine has {len(machine.accelerators)}; "
            "set num_processes in the file, or use another one of accelerate_configs/"
        )
    if not launch.gpus and launch.here > max(machine.cores, len(machine.accelerators)):
        problems.append(f"launch: {launch.here} processes are more than this machine has cores ({machine.cores})")
    if settings.batch_rows < launch.processes:
        problems.append(
            f"batch_tokens ({settings.batch_tokens}) gives {settings.batch_rows} rows a step, fewer than the "
            f"{launch.processes} processes of the launch; raise batch_tokens"
        )
    return problems

"""What a training will need, from the model's shape and the corpus' size alone. Imports no torch, loads no weights.

Memory is counted in memory.py. The constants were measured with SmolLM2-135M on a CPU (docs/training.md says how far
the estimates were off).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtune.extras import have, missing
from llmtune.machine import Accelerator, Machine
from llmtune.models.adapters import adapter_parameters
from llmtune.models.families import encoder_problem, first_position, is_encoder, stays_inside_documents
from llmtune.models.load import cannot_train
from llmtune.models.moe.target import active_parameters
from llmtune.training.launch import Launch
from llmtune.training.masking import masking_problem
from llmtune.training.memory import DEEPSPEED_LIBRARIES, LIBRARIES, loading_bytes, rank_memory, rows_bytes
from llmtune.training.precision import chosen_precision, precision_note, precision_problem
from llmtune.training.router_plan import router_problem
from llmtune.training.schedule import REHEARSAL_STEPS, rehearsal_rows
from llmtune.training.settings import CHECKPOINT_SECONDS, TrainSettings, count_steps

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape

ROW_CACHE_BYTES = 3.2  # of a token on disk: id, target flag, places
OTHER_FILES = 8 << 20  # bytes on disk: tokenizer, configuration, history
# Sustained floating-point operations a second in training: of a core with AVX-512, of one with AVX2, of a GPU.
CPU_CORE_RATE = {"bf16": 185e9, "fp32": 80e9, "bf16 without instructions": 25e9}
AVX2_CORE_RATE = {"fp32": 50e9, "bf16 without instructions": 2e9}
GPU_RATE = {(8, 0): 110e12, (8, 6): 35e12, (8, 9): 60e12, (9, 0): 280e12, (7, 0): 40e12, (7, 5): 20e12}
START_SECONDS = 15.0
# A layer's kernels of one micro-batch take at least this long to start on a GPU, however few its tokens. An H100 that
# eight processes shared took 3.2 ms, which is more than one alone would.
GPU_LAYER_SECONDS = 1.5e-3
MOST_PADDING = 512  # rows by which the embeddings of one tokenizer's models may differ


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
    settings: TrainSettings,
    shape: ModelShape | None,
    tokens: dict[str, int],
    machine: Machine,
    launch: Launch | None,
    teacher: ModelShape | None = None,
) -> Estimate:
    """Of training a model of `shape` on a corpus with `tokens` by split, on this machine. teacher: whom it learns from,
    when it is distilled."""
    problems = _problems(settings, machine, launch)
    notes = [note for note in (precision_note(settings.precision, settings.device, machine),) if note]
    asked, precision = settings.precision, chosen_precision(settings.precision, settings.device, machine)
    settings = settings.model_copy(update={"precision": precision})
    if shape is None:
        return Estimate(notes=tuple(notes), problems=tuple(problems))
    if quantized := cannot_train(shape.config, "the base model"):
        problems.append(str(quantized))
    if problem := row_problem(settings.row_tokens, shape):
        problems.append(problem)
    elif shape.context_length and settings.row_tokens > shape.context_length:
        notes.append(f"row_tokens {settings.row_tokens} is more than the {shape.context_length} the model was made for")
    if problem := masking_problem(settings.masking, shape.config):
        problems.append(problem)
    if problem := router_problem(settings, shape.config):
        problems.append(problem)
    if is_encoder(shape.config) and settings.masking is None:
        notes.append("an encoder: trained on masked tokens, with the defaults of `masking: {type: mlm}`")
    if not stays_inside_documents(shape.config):
        notes.append("this family cannot be kept inside a document: one document a row, shorter ones padded")
    if teacher is not None:
        problems += teacher_problems(settings, shape, teacher)
    if tokens and not tokens.get("train"):
        problems.append("the corpus' train split is empty")
    trained = adapter_parameters(settings.adapter, shape) if settings.adapter else shape.parameters
    launch = launch or Launch(identity="")
    gpus = _gpus(settings, machine)
    elsewhere = not gpus and _wants_gpus(launch, machine)
    if elsewhere and asked == "auto":
        settings = settings.model_copy(update={"precision": "bf16"})
    each = rank_memory(settings, shape, trained, launch, "cuda" if gpus or elsewhere else "cpu", teacher)
    if gpus or elsewhere:
        notes.append(_needs_of_gpus(each.device, launch))
        problem = _gpu_problem(each.device, gpus[: launch.here]) if gpus else None
        problems += [problem] if problem else []
        libraries, training = 2 * LIBRARIES, max(each.host, loading_bytes(settings, shape))
    else:
        libraries = LIBRARIES + (DEEPSPEED_LIBRARIES if launch.library == "deepspeed" else 0)
        training = each.device + each.host
    memory = max(launch.here * (libraries + training), libraries + each.saving) + rows_bytes(tokens)
    seconds = None if elsewhere else _seconds(settings, shape, trained, tokens, machine, launch, teacher)
    size = 2 * shape.parameters + OTHER_FILES + (4 * trained if settings.adapter else 0)
    return Estimate(
        bytes=size,
        memory=memory,
        disk=_disk(settings, size, trained, tokens, seconds),
        seconds=seconds,
        notes=tuple(notes),
        problems=tuple(problems),
    )


def row_problem(row_tokens: int, shape: ModelShape, setting: str = "row_tokens") -> str | None:
    """Why rows of so many tokens do not go into a model with a table of positions; None when they do. setting: what
    says how many."""
    tables = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")
    rows = [size[0] for name, size in shape.tensors.items() if name.endswith(tables)]
    positions = min(rows) - first_position(shape.config) if rows else row_tokens
    if rows and shape.context_length:  # OPT's table has two rows more than it has positions
        positions = min(positions, shape.context_length)
    if row_tokens <= positions:
        return None
    return f"{setting} {row_tokens} is more than the {positions} positions that this model has weights for; lower it"


def teacher_problems(settings: TrainSettings, student: ModelShape, teacher: ModelShape) -> list[str]:
    """Why this teacher cannot teach this student, as far as their shapes tell; the tokenizers are compared in the
    run."""
    problems = [problem for one in (student, teacher) if (problem := encoder_problem(one.config, "distillation"))]
    if quantized := cannot_train(teacher.config, "the teacher"):
        problems.append(str(quantized))
    # Embeddings are padded, by some makers to multiples of 512 for the larger models of a family.
    if abs(teacher.vocab_size - student.vocab_size) > MOST_PADDING:
        problems.append(
            f"the teacher has another vocabulary ({teacher.vocab_size:,} tokens, the student {student.vocab_size:,}); "
            "take a teacher with the same tokenizer"
        )
    if problem := row_problem(settings.row_tokens, teacher):
        problems.append(f"teacher: {problem}")
    return problems


def _disk(settings: TrainSettings, size: int, trained: int, tokens: dict[str, int], seconds: float | None) -> int:
    """The most that stands on the disk: two checkpoints with moments while one replaces the other (and the one that the
    guard goes back to, where more are saved) and, where they are older, the best weights; or the result beside the last
    weights."""
    rows = int(ROW_CACHE_BYTES * (tokens.get("train", 0) + tokens.get("valid", 0)))
    best = 4 if tokens.get("valid") and settings.validation.keep == "best" else 0
    often = settings.checkpoint_steps is not None or seconds is None or seconds > 4 * CHECKPOINT_SECONDS
    states = 3 if settings.guard is not None and often else 2
    return max(12 * states * trained + (states - 1) * best * trained, size + 8 * trained) + rows


def _seconds(
    settings: TrainSettings,
    shape: ModelShape,
    trained: int,
    tokens: dict[str, int],
    machine: Machine,
    launch: Launch,
    teacher: ModelShape | None,
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
    if settings.lr == "auto":
        rehearsal = REHEARSAL_STEPS * rehearsal_rows(settings, steps.total) * min(settings.row_tokens, in_train // rows)
        steps_tokens, valid_tokens = steps_tokens + rehearsal, valid_tokens + rehearsal
    rate = _rate(settings, machine, launch)
    if rate is None:
        return None
    # forward 2, gradient of activations 2, gradient of weights 2 operations a weight and token
    passes = 4 if settings.adapter else 6
    passes += 2 if settings.gradient_checkpointing else 0
    products = active_parameters(shape) - (0 if shape.tied else shape.vocab_size * shape.hidden_size)
    attention = shape.layers * shape.heads * shape.head_dim * settings.row_tokens
    slower = 1.35 if settings.adapter and passes <= 6 else 1.0  # small products and the copies between formats
    if settings.adapter and settings.adapter.type == "qlora":
        slower *= 1.25
    work = (products + attention) * (passes * slower * steps_tokens + 2 * slower * valid_tokens) + 2 * trained
    if teacher is not None:
        work += 2 * active_parameters(teacher) * steps_tokens
    least = 0.0
    if gpus := _gpus(settings, machine)[: launch.processes]:
        passes_one_after_the_other = math.ceil(settings.batch_rows / len(gpus) / settings.micro_batch) * steps.total
        least = passes_one_after_the_other * shape.layers * GPU_LAYER_SECONDS
    return START_SECONDS + max(work / rate, least)


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
    rates = CPU_CORE_RATE | (AVX2_CORE_RATE if machine.has_half_vectors else {})
    return machine.cores * rates[kind]


def _gpus(settings: TrainSettings, machine: Machine) -> tuple[Accelerator, ...]:
    return machine.accelerators if settings.device != "cpu" else ()


def _wants_gpus(launch: Launch, machine: Machine) -> bool:
    """Whether a launch is made for GPUs, as far as its file tells, and not for the processor of this machine."""
    return launch.gpus or launch.machines > 1 or launch.here > machine.cores


def _needs_of_gpus(each: int, launch: Launch) -> str:
    number = f"each of {launch.processes} GPUs" if launch.processes > 1 else "the GPU"
    return f"needs about {each / 1e9:.1f} GB on {number}"


def _gpu_problem(each: int, gpus: tuple[Accelerator, ...]) -> str | None:
    least = min(gpu.memory for gpu in gpus)
    if each <= 0.92 * least:
        return None
    return (
        f"training needs about {each / 1e9:.1f} GB on each GPU, {gpus[0].name} has {least / 1e9:.1f} GB; "
        "lower micro_batch, set gradient_checkpointing: true, train an adapter, or launch with ZeRO or FSDP2"
    )


def _problems(settings: TrainSettings, machine: Machine, launch: Launch | None) -> list[str]:
    """Why this training cannot work here."""
    problems = []
    library, spread = (launch.library, launch.spread) if launch else ("", 0)
    problem = precision_problem(settings.precision, settings.device, machine, spread=bool(library))
    if problem:
        problems.append(problem)
    if settings.adapter is not None and settings.adapter.type == "qlora":
        if not have("bitsandbytes"):
            problems.append(str(missing("bitsandbytes", "adapter type qlora")))
        if library == "fsdp" or spread == 3:
            problems.append(
                "adapter type qlora does not go with ZeRO-3 or FSDP2 (4-bit weights cannot be spread); use ddp.yaml"
            )
    if launch is None:
        return problems
    if launch.problem:
        return [*problems, launch.problem]
    if library == "deepspeed" and not have("deepspeed"):
        problems.append(str(missing("deepspeed", "this launch configuration")))
    gpus = len(machine.accelerators)
    if launch.gpus and gpus < launch.here:
        problems.append(
            f"launch: {launch.here} GPUs are asked for, this machine has {gpus or 'none'}; "
            "set num_processes in the file, or use another one of accelerate_configs/"
        )
    if not launch.gpus and launch.here > max(machine.cores, gpus):
        problems.append(
            f"launch: {launch.here} processes are more than this machine has cores ({machine.cores}) or GPUs "
            f"({gpus or 'none'}); set num_processes in the file, or use another one of accelerate_configs/"
        )
    if settings.batch_rows < launch.processes:
        problems.append(
            f"batch_tokens ({settings.batch_tokens}) gives {settings.batch_rows} rows a step, fewer than the "
            f"{launch.processes} processes of the launch; raise batch_tokens"
        )
    return problems

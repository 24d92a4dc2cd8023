"""A distillation step beside its parts: the teacher's forward pass and the student's own training step, in turn.

    python benchmarks/distill.py                          # SmolLM2-135M teaches its first 20 layers
    python benchmarks/distill.py --student path --teacher path --rounds 9

The goal: one step with a live teacher costs at most the teacher's forward pass, its logits made chunk by chunk, and the
student's step, and 5 % (ratio 1.05). A step is forward, backward and update on 4 rows of 512 tokens in one micro-batch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmtune.heap import keep_freed_memory
from llmtune.machine import this_machine
from llmtune.models.find import resolve
from llmtune.models.load import load_model
from llmtune.models.reference import ModelReference
from llmtune.training.devices import start
from llmtune.training.distillation import Distillation
from llmtune.training.engine import AUTOCAST, Engine, make_engine
from llmtune.training.loss import chunked_loss, hidden_states
from llmtune.training.objective import NextToken
from llmtune.training.precision import chosen_precision
from llmtune.training.preparation import FROZEN_DTYPE
from llmtune.training.settings import TrainSettings

ROWS, TOKENS, LAYERS = 4, 512, 20
GOAL = 1.05


def main() -> None:
    """Print the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="smollm2-135m-instruct-q4", help="short name, folder or hub id")
    parser.add_argument("--student", help="default: the teacher's first 20 layers")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    parts = _parts(options)
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(options.rounds + 1):  # the first warms up
        for name, work in parts.items():
            began = time.perf_counter()
            work()
            found[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times[1:]) for name, times in found.items()}
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:6.2f} s")
    teacher, student, both = medians.values()
    print(f"distillation step / (teacher + student): {both / (teacher + student):.3f} x (goal {GOAL})")


def _parts(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Name → the work to time."""
    teacher_folder = resolve(ModelReference.parse(options.teacher))
    precision = chosen_precision("auto", "auto", this_machine())
    settings = TrainSettings(precision=precision, row_tokens=TOKENS, batch_tokens=ROWS * TOKENS, micro_batch=ROWS)
    devices = start("auto", batch_rows=ROWS, micro_batch=ROWS, clip=1.0)
    teacher: Any = load_model(teacher_folder, dtype=FROZEN_DTYPE[precision])
    teacher = teacher.to(devices.device).requires_grad_(False)
    student = load_model(resolve(ModelReference.parse(options.student or options.teacher)), dtype="float32")
    if options.student is None:
        student = _cut(student)
    student.config.use_cache = False
    student.train()
    distillation = Distillation(teacher, options.temperature, 0.25)
    engine = make_engine(student, NextToken(), settings, devices)
    taught: Engine = make_engine(student, distillation, settings, devices)
    ids = torch.randint(0, student.config.vocab_size, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(TOKENS).expand(ROWS, TOKENS)}
    weight = float(NextToken().weight(batch))

    def step(of: Engine) -> None:
        of.train_on(batch, 1 / weight, last=True)
        of.update(1e-5)

    @torch.no_grad()
    def ask() -> None:
        dtype = AUTOCAST[precision]
        with torch.autocast(devices.device.type, dtype, enabled=dtype is not None):
            placed = {name: tensor.to(devices.device) for name, tensor in batch.items()}
            hidden_NH = hidden_states(teacher, placed)[:, :-1].flatten(0, 1)
            chunked_loss(teacher, hidden_NH, lambda logits_nV, _: logits_nV.new_zeros(()))

    return {"teacher's forward": ask, "student's step": lambda: step(engine), "distillation step": lambda: step(taught)}


def _cut(model: Any) -> Any:
    """The model's first layers, saved and loaded: a student of the size that pruning leaves."""
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:LAYERS]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_model(Path(folder), dtype="float32")


if __name__ == "__main__":
    main()

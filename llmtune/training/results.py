"""What came of a training: its metrics, the weights to keep, and its part of the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from llmtune.machine import peak_resident
from llmtune.section import Section
from llmtune.training.checkpoint import WEIGHTS
from llmtune.training.guard import table_of_returns
from llmtune.training.loop import Loop
from llmtune.training.range_test import RangeTest, curve_of
from llmtune.training.router_losses import curves_of_routers


def kept_weights(loop: Loop) -> Path:
    """The file of the weights to keep: of the best validation, or of the last step."""
    best = loop.progress.best_step
    return loop.store.best(best) if best else loop.store.after(loop.progress.step) / WEIGHTS


def metrics_of(loop: Loop) -> dict[str, Any]:
    """What was measured; the same keys for every kind of training. All ranks call it."""
    progress, devices, settings = loop.progress, loop.engine.devices, loop.settings
    kept = progress.best_step or progress.step
    losses = [record["loss"] for record in progress.history if "loss" in record]
    valid = {record["step"]: record["valid_loss"] for record in progress.history if "valid_loss" in record}
    peak = devices.sum([float(peak_resident())])[0]
    on_gpu = devices.device.type == "cuda"
    return {
        "precision": settings.precision,
        "method": settings.adapter.type if settings.adapter else "full",
        "steps": progress.step,
        "tokens": progress.seen,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "valid_loss": valid.get(kept),
        "lr": settings.learning_rate,
        "roll_backs": progress.roll_backs,
        "skipped_steps": progress.skipped,
        "kept_step": kept,
        "trainable_parameters": sum(math.prod(shape) for shape in loop.engine.shapes().values()),
        "padding_share": 1 - progress.seen / progress.room,
        "rows": len(loop.rows),
        "row_fill": loop.rows.counts.fill,
        "shortened_conversations": loop.rows.counts.shortened,
        "dropped_documents": loop.rows.counts.dropped_documents,
        "ranks": devices.world,
        "micro_batch": loop.micro_batch,
        "tokens_per_second": loop.clock.tokens_per_second,
        "seconds_to_first_step": loop.clock.first_step,
        "peak_memory": int(peak),
        "peak_device_memory": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def section_of(loop: Loop, rates: RangeTest | None) -> Section:
    """What the report shows of a training beside its curves. rates: the range test, where one was made."""
    charts = [curve_of(rates)] if rates is not None and rates.rates else []
    charts += curves_of_routers(loop.progress.history)
    returns = table_of_returns(loop.progress.history)
    return Section(tables=[returns] if returns.rows else [], charts=charts)

"""What to do about steps that go wrong, decided from the history alone, so that a resumed run decides the same.

A step is bad when its loss or gradient is not finite (nothing was updated then: its batch is left out, the next one
takes its place), or when its loss is a spike. One bad step may be the batch's fault, and is survived. `patience` of
them in a row are the weights' fault: training goes back to its last good state, and goes on with the batches behind
those that led astray, as PaLM was trained (Chowdhery et al. 2022, arXiv 2204.02311, section 5.1: the same batches from
other weights did no harm). Where that was not enough, it goes back once more and learns half as fast from there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from llmtune.errors import NotFinite
from llmtune.section import Table
from llmtune.training.checkpoint import Progress
from llmtune.training.settings import GuardSettings

WINDOW, FEWEST = 32, 4  # losses of a running median: at most, and at least
FIRST_ROWS = 16  # whose loss is typical before the first step: a rate far too high leaves no time to learn it


def is_spike(loss: float, progress: Progress, guard: GuardSettings) -> bool:
    """Whether a loss (nats a target) is far above what was typical at its lowest.

    At its lowest, not lately: a loss that climbs slowly would take its own measure with it.
    """
    return progress.typical is not None and loss > guard.spike * max(progress.typical, 1.0)


def lowest_median(progress: Progress) -> float | None:
    """`Progress.typical` after the last step of its history; spikes do not count."""
    good = (record["loss"] for record in reversed(progress.history) if "loss" in record and "spike" not in record)
    recent = list(islice(good, WINDOW))
    if len(recent) < FEWEST:
        return progress.typical
    return min(statistics.median(recent), math.inf if progress.typical is None else progress.typical)


def rate_part(progress: Progress) -> float:
    """The part of the learning rate that is left: all of it after the first roll-back, half after the second, …"""
    return 0.5 ** max(0, progress.roll_backs - 1)


def ends_high(progress: Progress, guard: GuardSettings | None) -> str | None:
    """What to tell of a training whose last steps were spikes, too few to go back, where the weights that are
    kept are not of a good validation: one with no spike of a loss, or as good as one before the spikes, after which
    training went on as usual (a validation in distillation is of another measure than `typical`)."""
    losses = (record for record in reversed(progress.history) if "loss" in record)
    spikes = list(takewhile(lambda record: "spike" in record, losses))
    if guard is None or len(spikes) < 2 or progress.typical is None:
        return None
    first = spikes[-1]["step"]
    read_well = any("valid_loss" in record and record["step"] + 1 < first for record in progress.history)
    good = progress.best_loss is not None and not is_spike(progress.best_loss, progress, guard)
    if progress.best_step and (read_well or good):
        return None
    return (
        f"the training ends with a loss of {spikes[0]['loss']:.3g}, where {progress.typical:.3g} was typical: it has "
        "harmed the model; lower lr or set it to auto"
    )


def gone_back(lost: Progress, good: Progress, reason: str) -> Progress:
    """Where training stands after going back from `lost` to `good`, an earlier state of the same run.

    Its next batch is the one after those that `lost` had come to. Of the history between the two only the roll-backs
    stay, and this one.
    """
    told = [record for record in lost.history[len(good.history) :] if "rolled_back_to" in record]
    event = {"step": lost.step, "rolled_back_to": good.step, "reason": reason}
    return replace(
        good,
        history=[*good.history, *told, event],
        skipped=lost.step + lost.skipped - good.step,
        roll_backs=lost.roll_backs + 1,
    )


def diverged(reason: str, progress: Progress, kept: Path | None) -> NotFinite:
    """The end of a training that cannot go on. kept: the checkpoint that is left of it."""
    times = f" (roll-backs: {progress.roll_backs})" if progress.roll_backs else ""
    return NotFinite(
        f"training diverged: {reason}{times}",
        fix="lower lr or set it to auto, lengthen schedule.warmup, or use precision bf16 or fp32; "
        + (f"the last good state ({kept.name}) is kept" if kept else "nothing was saved before it"),
    )


def table_of_returns(history: Sequence[Mapping[str, Any]]) -> Table:
    """How often training went back, and why, for the report."""
    returns = [record for record in history if "rolled_back_to" in record]
    rows = [[record["step"], record["rolled_back_to"], record["reason"]] for record in returns]
    return Table("returns to an earlier state", ("at step", "back to step", "because"), rows)

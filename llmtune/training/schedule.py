"""The learning rate: a pure function of the step, so that a resume needs only the step's number. Imports no torch."""

from __future__ import annotations

import math

from llmtune.training.settings import ScheduleSettings, TrainSettings

# The learning-rate range test: so many updates, from one rate to the other.
REHEARSAL_STEPS, REHEARSAL_LOWEST, REHEARSAL_HIGHEST = 40, 1e-6, 1.0
REHEARSAL_SHARE = 0.05  # of the rows of the training, where that is more than a row an update


def rate_at(step: int, steps: int, schedule: ScheduleSettings) -> float:
    """The learning rate of a step as a part of the highest, 0 … 1.

    step:  from 0 to steps - 1
    The first of w warm-up steps has 1/w of the highest rate, the w-th all of it (no step is lost on rate 0); the last
    step of a fall has the floor.
    """
    warmup = math.ceil(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    floor = 0.1 if schedule.floor is None else schedule.floor
    if schedule.type == "constant":
        return 1.0
    start = warmup
    if schedule.type == "wsd":
        start = steps - max(1, round((schedule.decay or 0.2) * steps))
        if step < start:
            return 1.0
    # how far the fall is: 1 at the last step
    gone = (step - start + 1) / (steps - start)
    if schedule.type == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * gone))
    return floor + (1 - floor) * (1 - gone)


def rehearsal_rate(number: int) -> float:
    """The rate of an update of the range test, from 0: each is higher by one factor."""
    return REHEARSAL_LOWEST * (REHEARSAL_HIGHEST / REHEARSAL_LOWEST) ** (number / (REHEARSAL_STEPS - 1))


def rehearsal_rows(settings: TrainSettings, steps: int) -> int:
    """Rows of an update of the range test before a training of `steps` steps."""
    share = int(REHEARSAL_SHARE * steps * settings.batch_rows / REHEARSAL_STEPS)
    return min(max(1, share), settings.batch_rows)

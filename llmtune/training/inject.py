"""Faults on demand, for tests of what must survive them. Not a setting: only the environment variable LLMTUNE_INJECT.

    LLMTUNE_INJECT=nan@step:3          the loss of the third batch is not a number
    LLMTUNE_INJECT=nan@gradient:3      … its gradient alone is not
    LLMTUNE_INJECT=spike@step:3        … its loss is ten times what it is
    LLMTUNE_INJECT=memory@rows:4       a micro-batch of four rows does not fit into memory
    LLMTUNE_INJECT=nan@validation:3    the validation after the third step gives no number
    LLMTUNE_INJECT=kill@step:3         the process is killed in the middle of the step on the third batch
    LLMTUNE_INJECT=kill@checkpoint:3   … after the tensors of the checkpoint of step 3 were written, before it counts
    LLMTUNE_INJECT=kill@roll_back:3    … after weights of the third step were put back
    LLMTUNE_INJECT=kill@range_test:3   … in the third step of the learning-rate range test

Several are separated by commas. Batches are counted from 1, those that are left out with the others, so that a fault of
a batch comes once.
"""

from __future__ import annotations

import math
import os
import signal


def injected(fault: str, place: str, step: int) -> bool:
    """Whether `fault` is wanted at this place and step (from 1)."""
    return f"{fault}@{place}:{step}" in os.environ.get("LLMTUNE_INJECT", "").split(",")


def faults_of(batch: int) -> tuple[float, float]:
    """What the loss and the gradient of a batch (from 1) are multiplied by: 1 where nothing is wanted."""
    loss = math.nan if injected("nan", "step", batch) else 10.0 if injected("spike", "step", batch) else 1.0
    return loss, math.nan if injected("nan", "gradient", batch) else loss


def fail_if_injected(rows: int) -> None:
    """Run out of memory on a micro-batch of so many rows, if wanted."""
    if injected("memory", "rows", rows):
        raise MemoryError


def kill_if_injected(place: str, step: int) -> None:
    """Die as by kill -9, if wanted here."""
    if injected("kill", place, step):
        os.kill(os.getpid(), signal.SIGKILL)

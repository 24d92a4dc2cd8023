"""Faults on demand, for tests of what must survive them. Not a setting: only the environment variable LLMTUNE_INJECT.

    LLMTUNE_INJECT=nan@step:3          the third step's loss is not a number
    LLMTUNE_INJECT=kill@step:3         the process is killed in the middle of the third step
    LLMTUNE_INJECT=kill@checkpoint:3   … after the tensors of the checkpoint of step 3 were written, before it counts

Several are separated by commas.
"""

from __future__ import annotations

import os
import signal


def injected(fault: str, place: str, step: int) -> bool:
    """Whether `fault` is wanted at this place and step (from 1)."""
    return f"{fault}@{place}:{step}" in os.environ.get("LLMTUNE_INJECT", "").split(",")


def kill_if_injected(place: str, step: int) -> None:
    """Die as by kill -9, if wanted here."""
    if injected("kill", place, step):
        os.kill(os.getpid(), signal.SIGKILL)

"""Stages from outside the package, found by entry point: quick, resumable, and able to fail in every way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.files import write_text
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, LaunchedStage, Need, Plan, Stage


class CountStage(LaunchedStage):
    """Adds up numbers slowly, with a checkpoint after each."""

    kind = "count"
    makes = "corpus"
    not_identity = Stage.not_identity | {"seconds_each", "trouble", "note"}

    upto: int = Field(5, ge=1, description="Last number.")
    seconds_each: float = Field(0.0, description="Time a number takes.")
    trouble: str | None = Field(
        None,
        description="error, bug, memory, hopeless, kill, disk: at the third number; rank: on another rank; "
        "killed_rank: that one is killed, and rank 0 waits.",
    )
    note: str | None = Field(None, description="Said by the plan, and by the stage as it begins.")
    micro_batch: int = Field(4, description="Numbers at a time; halved after running out of memory.")

    def can_halve(self, halvings: int) -> bool:
        return self.micro_batch >> halvings >= 1

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        problems = ("counting above a million is not possible here",) if self.upto > 1_000_000 else ()
        notes = (self.note,) if self.note else ()
        return Plan(Forecast("corpus", 10), memory=1000, disk=10, seconds=0.1, notes=notes, problems=problems)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        if self.note:
            context.monitor.note(self.note)
        if int(os.environ.get("RANK", "0")) > 0:
            if self.trouble == "rank" and not context.halvings:
                raise MemoryError
            while self.trouble == "killed_rank" and not (context.work / "killed").exists():
                if (context.work / "state").exists():
                    (context.work / "killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.02)
            write_text(context.work / f"rank-{os.environ['RANK']}", os.environ["MASTER_PORT"])
            return {}
        state = context.work / "state"
        number, total = (int(part) for part in state.read_text().split()) if state.exists() else (0, context.seed)
        starts = context.work / "starts"
        starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
        with context.monitor.bar("counting", self.upto, "numbers", done=number) as bar:
            while number < self.upto:
                number += 1
                total += number
                time.sleep(self.seconds_each)
                if number == 3:
                    self._trouble(context)
                write_text(state, f"{number} {total}")
                bar.advance()
                context.monitor.safe_point()
        write_text(context.output / "total.txt", f"{total}\n")
        ranks = self._others(context)
        return {"total": total, "starts": len(starts.read_text()), "halvings": context.halvings, "ranks": ranks}

    def _others(self, context: Context) -> int:
        """Wait for the other ranks' greetings; returns how many ranks there are."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        while not all((context.work / f"rank-{rank}").exists() for rank in range(1, world)):
            if self.trouble != "killed_rank" and (context.work.parent / "failure.json").exists():
                raise RuntimeError("connection closed by peer")
            time.sleep(0.02)
        return world

    def _trouble(self, context: Context) -> None:
        if self.trouble == "error":
            raise LlmtuneError("three is one too many", where="toy", fix="count less")
        if self.trouble == "bug":
            raise ZeroDivisionError("not foreseen")
        if self.trouble == "memory" and self.micro_batch >> context.halvings > 1:
            raise MemoryError
        if self.trouble == "hopeless":
            raise MemoryError
        if self.trouble == "kill" and not (context.work / "killed").exists():
            (context.work / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "disk":
            raise OSError(28, "No space left on device", "somewhere")


class DoubleStage(Stage):
    """Doubles a total."""

    kind = "double"
    makes = "corpus"
    needs = (Need("corpus", "corpus"),)

    times: int = Field(1, description="How often.")

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        return Plan(Forecast("corpus", 10), memory=1000, disk=10)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        total = int((inputs["corpus"].folder / "total.txt").read_text()) * 2**self.times
        write_text(context.output / "total.txt", f"{total}\n")
        return {"total": total}

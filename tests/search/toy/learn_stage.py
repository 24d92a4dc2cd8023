"""Stages from outside the package that stand in for a training and what surrounds it: quick, resumable step by step,
with validation losses that follow from the settings alone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.errors import NotFinite
from llmtune.files import read_json, write_json, write_text
from llmtune.machine import Machine
from llmtune.settings import RecipePath
from llmtune.stages.stage import Context, Forecast, LaunchedStage, Need, Plan, Stage


class WordsStage(Stage):
    """Makes a corpus, and leaves a mark each time it is at work."""

    kind = "words"
    makes = "corpus"

    number: int = Field(10, ge=1, description="How many words.")
    text: RecipePath | None = Field(None, description="A file that is only named.")

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        problems = ("no text",) if self.text and not self.text.exists() else ()
        return Plan(Forecast("corpus", 10), memory=1000, disk=10, seconds=40.0, problems=problems)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        write_text(context.output / "words.txt", "word " * self.number)
        return {"words": self.number}


class LearnStage(LaunchedStage):
    """Descends a bowl whose lowest point is lr 0.01 and width 8, with a validation after every second step."""

    kind = "learn"
    makes = "corpus"
    needs = (Need("corpus", "corpus"),)
    not_identity = Stage.not_identity | {"seconds_each"}

    lr: float = Field(0.1, gt=0, description="Rate; above 1 it diverges.")
    width: int = Field(4, ge=1, description="Width.")
    shape: dict[str, int] | None = Field(None, description="A block, to be chosen whole.")
    steps: int = Field(6, ge=1, description="Steps.")
    seconds_each: float = Field(0.0, description="Time a step takes.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width == 16 and self.lr > 0.3:
            raise ValueError("a width of 16 bears no rate above 0.3")
        return self

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        return Plan(Forecast("corpus", 1000), memory=1000, disk=10, seconds=60.0)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        state = context.work / "state.json"
        step = read_json(state)["step"] if state.exists() else 0
        starts = context.work / "starts"
        starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
        while step < self.steps:
            context.monitor.safe_point()
            step += 1
            time.sleep(self.seconds_each)
            if self.lr > 1 and step == 3:
                raise NotFinite("the loss of step 3 is not a finite number", fix="lower lr")
            if step % 2 == 0:
                context.monitor.record("validation", step=step, loss=self._loss(step))
            write_json(state, {"step": step})
        write_text(context.output / "model.txt", f"{self.lr} {self.width}")
        return {"valid_loss": self._loss(self.steps), "starts": len(starts.read_text()), "nothing": None}

    def _loss(self, step: int) -> float:
        extra = sum(self.shape.values()) if self.shape else 0
        return (math.log10(self.lr) + 2) ** 2 + (math.log2(self.width) - 3) ** 2 / 4 + 1 / step + extra


class SqueezeStage(Stage):
    """Comes after, and has no part in what is learned."""

    kind = "squeeze"
    makes = "corpus"
    needs = (Need("corpus", "corpus", made_by=("learn",)),)

    bits: int = Field(4, ge=1, description="Bits.")

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        return Plan(Forecast("corpus", 10), memory=1000, disk=10)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        write_text(context.output / "small.txt", inputs["corpus"].folder.joinpath("model.txt").read_text())
        return {"bits": self.bits}

"""The implicit stage `answers`: what one model replies to the report's prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.evaluate.estimate import LIBRARIES, memory_to_answer
from llmtune.files import write_json
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Plan, Stage

_TOKENS = 96  # of the longest answer
_TOKENS_PER_SECOND = 20.0  # of a small model on a modest CPU


class AnswersStage(Stage):
    """Answer the prompts, greedily; the report sets the answers of the base and of the last model side by side.

    Its one input is `model`, a checkpoint or a bundle; the recipe's wiring gives it."""

    kind: ClassVar[str] = "answers"
    makes: ClassVar[str] = "scores"
    version: ClassVar[int] = 2  # spaces before punctuation are left as the tokens have them
    seeded: ClassVar[bool] = False

    prompts: list[str] = Field(min_length=1, description="What to ask.")

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        model = inputs["model"]
        gguf = model.bytes if model.format == "gguf" else None
        memory = memory_to_answer(model.shape, machine, gguf) if model.shape else LIBRARIES
        seconds = 8 + len(self.prompts) * _TOKENS / _TOKENS_PER_SECOND
        return Plan(Forecast(self.makes, bytes=4096), memory=memory, disk=4096, seconds=seconds)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from llmtune.evaluate.answers import answers_of

        model = inputs["model"]
        trust = bool(model.metrics.get("trust_remote_code"))
        answers = answers_of(model.folder, self.prompts, _TOKENS, trust)
        pairs = [{"prompt": p, "answer": a} for p, a in zip(self.prompts, answers, strict=True)]
        write_json(context.output / "answers.json", pairs)
        return {"answers": len(pairs)}

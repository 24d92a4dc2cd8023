"""The implicit stage `evaluate`: one model's row of the scorecard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.evaluate.settings import EvaluateSettings
from llmtune.files import write_json
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

_LIBRARIES = 800 << 20  # Python with torch and transformers
_LOAD_SECONDS = 8.0


class EvaluateStage(Stage):
    """Measure a checkpoint or a bundle; the metrics are its scores."""

    kind: ClassVar[str] = "evaluate"
    makes: ClassVar[str] = "scores"
    # `model` may be a checkpoint or a bundle; the recipe's wiring sees to it.
    needs: ClassVar[tuple[Need, ...]] = (Need("model", "checkpoint"), Need("corpus", "corpus", optional=True))

    settings: EvaluateSettings = Field(description="The recipe's `evaluate:` block.")

    def identity(self) -> dict[str, Any]:
        """Settings and the contents of the user's files."""
        return {"settings": self.settings.identity()}

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Weights in bf16 and one batch; time at the reference rate."""
        from llmtune.evaluate.scores import REFERENCE_FLOPS

        settings, shape = self.settings, inputs["model"].shape
        makes = Forecast(self.makes, self.kind, bytes=4096)
        if shape is None:
            return Plan(makes, memory=_LIBRARIES, disk=8192)
        tokens = settings.tokens + settings.general_tokens * (settings.general is not None) + 440 * settings.questions
        seconds = min(tokens * 2 * shape.parameters / REFERENCE_FLOPS, settings.minutes * 60)
        problems = []
        if settings.own_questions is not None and not settings.own_questions.is_file():
            problems.append(f"own_questions: no such file: {settings.own_questions}")
        batch = 4096 * (12 * shape.hidden_size + 4 * shape.intermediate_size) * 2 + (300 << 20)
        memory = _LIBRARIES + 2 * shape.parameters + batch
        return Plan(makes, memory=memory, disk=8192, seconds=_LOAD_SECONDS + seconds, problems=tuple(problems))

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from llmtune.evaluate.scores import evaluate_model

        corpus = inputs["corpus"].folder if "corpus" in inputs else None
        scores = evaluate_model(
            inputs["model"].folder, self.settings, corpus, context.work, context.seed, context.monitor
        )
        write_json(context.output / "scores.json", scores)
        return scores

"""The implicit stage `evaluate`: one model's row of the scorecard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.evaluate.estimate import LIBRARIES, memory_to_score
from llmtune.evaluate.settings import (
    DOMAIN_SHARE,
    GENERAL_SHARE,
    KNOWLEDGE_TOKENS,
    QUESTION_TOKENS,
    QUESTIONS_SHARE,
    REFERENCE_FLOPS,
    EvaluateSettings,
)
from llmtune.files import write_json
from llmtune.machine import Machine
from llmtune.models.families import encoder_problem
from llmtune.stages.stage import Context, Forecast, Plan, Stage

_LOAD_SECONDS = 8.0
_QUESTION_BYTES = 500  # of a knowledge question with the model's choice


class EvaluateStage(Stage):
    """Measure a checkpoint or a bundle; the metrics are its scores.

    The recipe's wiring gives its inputs: `model`, a checkpoint or a bundle; `corpus`, where there is one; `base`, the
    run's base model, whose size says how much text the time is enough for (without it, the model's own does)."""

    kind: ClassVar[str] = "evaluate"
    makes: ClassVar[str] = "scores"
    version: ClassVar[int] = 3  # of conversations the answers are scored

    settings: EvaluateSettings = Field(description="The recipe's `evaluate:` block.")

    def identity(self) -> dict[str, Any]:
        """Settings and the contents of the user's files."""
        return {"settings": self.settings.identity()}

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Memory by the rules of `evaluate/estimate.py`; time at the reference rate, a user's own questions not
        counted."""
        settings, model = self.settings, inputs["model"]
        makes = Forecast(self.makes, bytes=8192 + (_QUESTION_BYTES * settings.knowledge if "corpus" in inputs else 0))
        problems = self._problems()
        if model.shape is None or model.format == "adapter":
            return Plan(makes, memory=LIBRARIES, disk=2 * makes.bytes, problems=problems)
        if encoder := encoder_problem(model.shape.config, "`evaluate`"):
            return Plan(makes, 0, makes.bytes, problems=(*problems, f"{encoder}; leave the recipe's `evaluate` out"))
        tokens = settings.general_tokens if settings.general is not None else 0
        if "corpus" in inputs:
            tokens += settings.tokens + QUESTION_TOKENS * settings.questions + KNOWLEDGE_TOKENS * settings.knowledge
        seconds = min(tokens * 2 * model.shape.parameters / REFERENCE_FLOPS, settings.minutes * 60)
        gguf = model.format == "gguf"
        return Plan(
            makes,
            memory=memory_to_score(model.shape, machine, gguf=gguf),
            disk=2 * makes.bytes + (2 * model.shape.parameters if gguf else 0),  # read back into a bf16 checkpoint
            seconds=_LOAD_SECONDS + seconds,
            notes=self._notes(inputs),
            problems=problems,
        )

    def _notes(self, inputs: Mapping[str, Forecast]) -> tuple[str, ...]:
        """Said once, of the base model: what of the text that was asked for is left out for lack of time."""
        base, settings = inputs.get("base"), self.settings
        if base is None or base.shape is None or base is not inputs["model"]:
            return ()

        def enough_for(share: float) -> int:
            assert base is not None
            assert base.shape is not None
            return settings.affordable_tokens(share, base.shape.parameters)

        amounts = []
        if "corpus" in inputs:
            questions = enough_for(QUESTIONS_SHARE) // QUESTION_TOKENS
            amounts.append((enough_for(DOMAIN_SHARE), settings.tokens, "held-out tokens"))
            amounts.append((questions, settings.questions, "questions"))
            knowledge = settings.affordable_knowledge(base.shape.parameters)
            amounts.append((knowledge, settings.knowledge, "knowledge questions"))
        if settings.general is not None:
            amounts.append((enough_for(GENERAL_SHARE), settings.general_tokens, "tokens of general text"))
        cut = [f"{able:,} of {asked:,} {what}" for able, asked, what in amounts if able < asked]
        if not cut:
            return ()
        minutes = f"{settings.minutes:g} minute{'' if settings.minutes == 1 else 's'}"
        return (
            f"{minutes} with a model of this size are enough for {', '.join(cut)}; raise evaluate.minutes for more",
        )

    def _problems(self) -> tuple[str, ...]:
        """What is wrong with the files that the settings name."""
        from llmtune.evaluate.own import read_own_questions

        problems = []
        if self.settings.own_questions is not None:
            try:
                read_own_questions(self.settings.own_questions)
            except LlmtuneError as error:
                problems.append(f"own_questions: {error}")
        general = self.settings.general
        if isinstance(general, Path) and not general.exists():
            problems.append(f"general: no such file or folder: {general}")
        return tuple(problems)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Write `scores.json`, and of knowledge questions `knowledge.json` and a section of the report; the metrics are
        the scores."""
        from llmtune.evaluate.examination import from_records, knowledge_section
        from llmtune.evaluate.scores import Evaluation

        model, base = inputs["model"], inputs.get("base")
        if model.metrics.get("format") == "adapter":
            context.monitor.note(f"'{model.stage}' is an adapter alone: only its size is measured, no quality")
            scores = {"bytes": model.metrics["bytes"]}
        else:
            evaluation = Evaluation(
                model.folder,
                self.settings,
                inputs["corpus"].folder if "corpus" in inputs else None,
                context.work,
                context.seed,
                context.monitor,
                reference_parameters=base.metrics.get("parameters") if base else None,
                trust_remote_code=bool(model.metrics.get("trust_remote_code")),
            )
            scores = evaluation.run()
            if scores.get("knowledge_questions"):
                records = evaluation.asked()
                write_json(context.output / "knowledge.json", records)
                knowledge_section(*from_records(records)).write(context.output)
        write_json(context.output / "scores.json", scores)
        return scores

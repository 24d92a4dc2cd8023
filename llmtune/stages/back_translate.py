"""Stage `back_translate`: a corpus → the corpus with its training texts said in other words beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from llmtune.artifacts import Artifact
from llmtune.augment.settings import BackTranslateSettings
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

if TYPE_CHECKING:
    from llmtune.augment.engine import Engine
    from llmtune.monitor import Monitor


class BackTranslateStage(BackTranslateSettings, Stage):
    """Translate the sentences of the training texts to another language and back, and add the texts made of those that
    came back well.

    Code, identifiers, URLs and numbers come back as they were. Validation, test and conversations stay as they are.
    """

    kind: ClassVar[str] = "back_translate"
    makes: ClassVar[str] = "corpus"
    needs: ClassVar[tuple[Need, ...]] = (Need("corpus", "corpus"),)

    def identity(self) -> dict[str, Any]:
        """The translator counts by what it is: versions and contents, not by its place."""
        if self.models is None:
            from llmtune.augment.apertium import identity_of

            return super().identity() | {"engine": identity_of(self.language, self.pivot)}
        from llmtune.augment.seq2seq import identity_of as identity_of_models

        return super().identity() | {"models": identity_of_models(self.models)}

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """From the tokens of the train split and the translator's size; see llmtune/augment/estimate.py."""
        from llmtune.augment.estimate import estimate

        corpus = inputs["corpus"]
        found = estimate(self, corpus.tokens.get("train", 0), machine)
        grown = found.tokens / max(sum(corpus.tokens.values()), 1)
        makes = Forecast(
            self.makes,
            bytes=round(corpus.bytes * (1 + grown)),
            tokens={**corpus.tokens, "train": corpus.tokens.get("train", 0) + found.tokens},
        )
        return Plan(
            makes,
            memory=found.memory,
            disk=makes.bytes + found.work,
            seconds=found.seconds,
            notes=found.notes,
            problems=found.problems,
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from llmtune.augment.back_translate import back_translate

        engine = self._engine(context.monitor)
        try:
            return back_translate(
                inputs["corpus"].folder, self, engine, context.output, context.work, context.seed, context.monitor
            )
        finally:
            engine.close()

    def _engine(self, monitor: Monitor) -> Engine:
        if self.models is None:
            from llmtune.augment.apertium import Apertium

            return Apertium(self.language, self.pivot)
        from llmtune.augment.seq2seq import Seq2Seq

        return Seq2Seq(self.models, self.language, self.pivot, monitor)

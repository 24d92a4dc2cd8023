"""Stage `instruct`: a corpus → the corpus with questions and answers made from its documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmtune.artifacts import Artifact
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage


class InstructStage(InstructSettings, Stage):
    """Make conversations from documents: by rule from their headings, definitions and code, or written by a model.

    A pair stands in the split and group of its document. Conversations that are in the corpus already stay as they are.
    """

    kind: ClassVar[str] = "instruct"
    version: ClassVar[int] = 2  # near-copies of training answers are not held out
    makes: ClassVar[str] = "corpus"
    needs: ClassVar[tuple[Need, ...]] = (Need("corpus", "corpus"),)

    def identity(self) -> dict[str, Any]:
        """Without what only says how the endpoint is asked. `on_error` is of that: where nothing is skipped both make
        the same, and who turns to `skip` after a failure goes on with what was answered."""
        identity = super().identity()
        if identity["generate"] is not None:
            for name in ("key_variable", "timeout", "retries", "parallel", "on_error"):
                del identity["generate"][name]
        return identity

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """From the tokens of the corpus; see llmtune/augment/instruct/estimate.py."""
        from llmtune.augment.instruct.estimate import estimate

        corpus = inputs["corpus"]
        found = estimate(self, corpus.tokens)
        before = corpus.tokens if self.keep_documents else dict.fromkeys(corpus.tokens, 0)
        tokens = {split: count + found.tokens.get(split, 0) for split, count in before.items()}
        share = sum(tokens.values()) / max(sum(corpus.tokens.values()), 1)
        makes = Forecast(self.makes, bytes=round(corpus.bytes * share), tokens=tokens)
        return Plan(
            makes,
            memory=found.memory,
            disk=makes.bytes + found.work,
            seconds=found.seconds,
            notes=found.notes,
            problems=found.problems,
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from llmtune.augment.instruct.build import instruct

        return instruct(inputs["corpus"].folder, self, context.output, context.work, context.seed, context.monitor)

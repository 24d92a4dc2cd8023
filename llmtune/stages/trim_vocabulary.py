"""Stage `trim_vocabulary`: a checkpoint → the same with only the tokens that the corpus has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

_LIBRARIES = 500 << 20
_COUNTING = 300 << 20  # 2 MB of text while it is tokenized
_START_SECONDS = 15.0
_TOKENS_A_SECOND = 3.0e5  # through the tokenizer, four times
# Heaps' law, tokens seen three times ≈ K · √tokens, and what is left when it is to be oftener: of SmolLM2's on the
# PostgreSQL manual (19,200 at min_count 1, 13,888 at 3, 9,280 at 10).
_HEAPS, _RARER = 10, 0.33
_LEAST = 512  # bytes and special tokens


class TrimVocabularyStage(Stage):
    """Leave out the tokens that the corpus hardly has. A small model's embedding is a large part of it (a fifth of
    SmolLM2-135M), and most of its rows stand for other languages and other subjects. Every text can still be written,
    in smaller pieces where a word's own token is gone."""

    kind: ClassVar[str] = "trim_vocabulary"
    version: ClassVar[int] = 2  # tokens without a row are gone from all files; a multiple of 64 in any case
    makes: ClassVar[str] = "checkpoint"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("checkpoint", "checkpoint", not_made_by=("quantize",)),
        Need("corpus", "corpus"),
    )
    seeded: ClassVar[bool] = False

    min_count: int = Field(
        3,
        ge=1,
        description="Tokens that the train split has so many times stay, with all that the tokenizer needs to write "
        "them and any other text; the number is filled up to a multiple of 64.",
    )

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """How many tokens stay is estimated from the size of the corpus; memory and time from the model's and its."""
        from llmtune.compress.trim_vocabulary import trimmed_shape, trimming_problem

        before = inputs["checkpoint"]
        if before.shape is None:
            return Plan(Forecast("checkpoint", bytes=before.bytes), memory=0, disk=before.bytes)
        if problem := trimming_problem(before.shape):
            return Plan(before, memory=0, disk=before.bytes, problems=(problem,))
        vocabulary = before.shape.vocab_size
        note = "how many tokens stay is not known before the corpus is made"
        if tokens := inputs["corpus"].tokens.get("train") or 0:
            often = _HEAPS * math.sqrt(tokens) * (self.min_count / 3) ** -_RARER
            vocabulary = min(_LEAST + round(often), vocabulary)
            share = trimmed_shape(before.shape, vocabulary).parameters / before.shape.parameters
            note = f"about {vocabulary:,} tokens stay, and with them {share:.0%} of the parameters"
        after = trimmed_shape(before.shape, vocabulary)
        return Plan(
            Forecast("checkpoint", bytes=after.bytes, shape=after),
            memory=_LIBRARIES + max(_COUNTING, 2 * before.shape.bytes),
            disk=after.bytes,
            seconds=_START_SECONDS + tokens / _TOKENS_A_SECOND,
            notes=(note,),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Trim into `context.output`."""
        from llmtune.compress.trim_vocabulary import trim_vocabulary

        trust = bool(inputs["checkpoint"].metrics.get("trust_remote_code"))
        metrics = trim_vocabulary(
            inputs["checkpoint"].folder,
            context.output,
            corpus=inputs["corpus"].folder,
            at_least=self.min_count,
            work=context.work,
            trust_remote_code=trust,
            monitor=context.monitor,
        )
        return metrics | {"trust_remote_code": trust}

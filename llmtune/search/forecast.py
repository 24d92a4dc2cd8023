"""What a study will take, before it is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmtune.recipe.recipe import BASE
from llmtune.run.planning import PlannedNode, remaining_seconds
from llmtune.words import human_seconds


@dataclass(frozen=True)
class StudyForecast:
    """trial: the stages of a trial; varied: the ids of those that differ between trials, the others are made once;
    trials, done: how many trials there are, and how many are finished"""

    trial: list[PlannedNode]
    varied: set[str]
    sampler: str
    trials: int
    done: int

    @property
    def each(self) -> float:
        """Seconds of one trial, once what trials share is made."""
        return sum(one.plan.seconds or 0.0 for one in self.trial if one.node.id in self.varied)

    @property
    def seconds(self) -> float:
        """Of all that is left."""
        once = [one for one in self.trial if one.node.id not in self.varied]
        return remaining_seconds(once) + self.each * max(0, self.trials - self.done)

    @property
    def bytes(self) -> int:
        """That the trials left leave in the store."""
        kept = sum(one.plan.makes.bytes for one in self.trial if one.node.id in self.varied)
        return kept * max(0, self.trials - self.done)

    def in_words(self) -> str:
        """A sentence for the plan."""
        shared = ", ".join(one.node.id for one in self.trial if one.node.id not in self.varied)
        done = f", {self.done} of them done" if self.done else ""
        return (
            f"Search: {self.trials} trials ({self.sampler}){done}, about {human_seconds(self.each)} each"
            f"{f'; made once: {shared}' if shared else ''}."
        )


def varied(nodes: Sequence[PlannedNode], fields: Iterable[str]) -> set[str]:
    """The ids of the stages that differ between trials: those in the space, and all that is made from them.

    fields: those of the space, as they are named there"""
    parts = [field.split(".") for field in fields]
    heads = {
        ".".join(words[:length]) for words in parts for length in (1, 2)
    }  # `train`; `distill.teacher`, also a node
    found: set[str] = set()
    for one in nodes:
        block = {BASE: "model"}.get(one.node.id) or {"evaluate": "evaluate"}.get(one.stage.kind)
        own = {one.node.id, block} & heads or ("seed" in heads and one.stage.seeded)
        if own or found & set(one.node.inputs.values()):
            found.add(one.node.id)
    return found

"""One trial: a run of the recipe with some values in place, as far as what it is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmtune.errors import BadArtifact, Disturbed, LlmtuneError, MissingExtra, RecipeError, Stopped
from llmtune.evaluate.comparable import in_tokens_of, same_text, what_compares
from llmtune.files import read_json, write_json
from llmtune.recipe.faults import nearest
from llmtune.run.events import read_events
from llmtune.run.folder import StageRecord
from llmtune.run.job import Workshop
from llmtune.run.planning import PlannedNode
from llmtune.run.runner import Run
from llmtune.run.selection import Selection

if TYPE_CHECKING:
    from optuna.trial import Trial

VALIDATION = "validation"  # the event in which a training tells a validation loss


@dataclass(frozen=True)
class Outcome:
    """value: of a complete trial; reason: why it failed; losses: validation losses by step, as Optuna got them;
    seconds: what its stages took, those that were found in the store left out; stopped: the user wants the study to
    stop after it; measured: what others need to compare their value with its"""

    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    reason: str | None = None
    losses: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: bool = False
    measured: dict[str, Any] = field(default_factory=dict)


class LossWatch:
    """Hears the validation losses of one stage, each step once, and says when the trial is to be pruned.

    What it heard is kept in a file, and what a worker told while nobody listened (the supervisor had been killed) is
    in the workshop's events: so the decisions are those of a trial that was never interrupted.
    """

    def __init__(self, stage: str | None, trial: Trial, sign: int, file: Path) -> None:
        """sign: -1 where the study maximizes, so that lower losses are better there too"""
        self.stage, self.pruned, self.losses = stage, False, dict[int, float]()
        self._trial, self._sign, self._file = trial, sign, file

    def catch_up(self, workshop: Path | None) -> None:
        """Hear what was told before this process; workshop: of the stage's artifact while it is being made."""
        if self._file.exists():
            for step, loss in read_json(self._file):
                self._take(step, loss)
        for event in read_events(Workshop(workshop).events) if workshop else ():
            if event["event"] == VALIDATION:
                self.hear(event["step"], event["loss"])

    def hear(self, step: int, loss: float) -> None:
        """Take the loss after a step. Nothing counts after the decision to prune, nor a second time."""
        if not self.pruned and step not in self.losses:
            write_json(self._file, [*self.losses.items(), (step, loss)])
            self._take(step, loss)

    def _take(self, step: int, loss: float) -> None:
        self.losses[step] = loss
        self._trial.report(self._sign * loss, step)
        self.pruned = self._trial.should_prune()


def run_trial(run: Run, node: str, figure: str, watch: LossWatch, first: Mapping[str, Any]) -> Outcome:
    """Run as far as `node` and read its `figure`. A trial that cannot come to an end by its own fault is an Outcome;
    raises Stopped when the user wants that, and LlmtuneError for what would befall every trial.

    first: `measured` of the first complete trial, in whose tokens a perplexity is told; {} before there is one
    """
    pressed = 0

    def hear(stage: str, event: dict[str, Any]) -> None:
        nonlocal pressed
        if stage == watch.stage and event["event"] == VALIDATION:
            watch.hear(event["step"], event["loss"])
            if watch.pruned and not run.switch.presses:
                run.switch.press()
                pressed = 1

    planned: list[PlannedNode] = []
    value = reason = None
    metrics: dict[str, Any] = {}
    try:
        planned = run.plan(needed_for=node)
        watched = next((one for one in planned if one.node.id == watch.stage), None)
        watch.catch_up(run.store.workshop(watched.fingerprint) if watched else None)
        if not watch.pruned:
            run.on_event = hear
            with run.locked():
                records = run.go(Selection(exactly=frozenset(one.node.id for one in planned)))
            value, metrics = _figure(records[node], figure, first), records[node].metrics
            if not same_text(figure, metrics, first):
                raise CannotCompare(
                    f"search: {figure} of this trial was measured on another text than that of the first complete one: "
                    "they do not compare",
                    fix="search over what leaves that text as it is (fields of the corpus change it, and so does the "
                    "size of the base model, where `evaluate.minutes` are few), or by a figure that does not depend on "
                    "it; what was trained is kept",
                )
            reason = None if value is not None and math.isfinite(value) else f"{figure} of '{node}' is {value}"
    except Stopped:
        if not watch.pruned:
            raise
    except (Disturbed, BadArtifact, MissingExtra, CannotCompare):
        raise
    except LlmtuneError as error:
        reason = str(error)
    finally:
        run.display.close()
    state: Literal["complete", "pruned", "failed"] = "pruned" if watch.pruned else "failed" if reason else "complete"
    return Outcome(
        state,
        value=value if state == "complete" else None,
        reason=reason if state == "failed" else None,
        losses=watch.losses,
        seconds=_seconds(run, planned),
        stopped=run.switch.presses > pressed,
        measured=what_compares(figure, metrics),
    )


class CannotCompare(RecipeError):
    """The recipe asks for a figure that the stage does not measure, or changes what its trials are measured on."""


def _figure(record: StageRecord, figure: str, first: Mapping[str, Any]) -> float | None:
    known = [name for name, value in record.metrics.items() if isinstance(value, int | float) or value is None]
    if figure not in known or isinstance(record.metrics[figure], bool):
        raise CannotCompare(
            f"search: '{record.id}' measures no number '{figure}'{nearest(figure, known)}",
            fix="name another figure and run again: what was trained is kept",
        )
    return in_tokens_of(figure, record.metrics, first)


def _seconds(run: Run, planned: list[PlannedNode]) -> float:
    """What the stages of this trial took, a part of the one that did not end among them."""
    records = {record.artifact: record for _, record in run.files.records()}
    total = sum(record.actual.get("seconds", 0.0) for record in records.values() if not record.reused)
    for one in planned:
        spent = Workshop(run.store.workshop(one.fingerprint)).spent
        if one.fingerprint not in records and spent.exists():
            total += read_json(spent)["seconds"]
    return round(total, 3)

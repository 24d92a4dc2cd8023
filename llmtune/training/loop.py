"""The one training loop: steps over rows of tokens, with validation, guards, checkpoints and exact resume.

A step takes the next `batch_rows` rows (a pure function of its number), shares them among the ranks, and works through
them in micro-batches. The loss is divided by the number of targets of the whole step, over micro-batches and ranks, so
neither their size nor their number changes the gradient. All that decides a result follows from settings, seed and step
number; the clock decides only when a checkpoint more is saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from llmtune.errors import NotFinite, Stopped
from llmtune.monitor import Bar, Monitor
from llmtune.seeds import seed_of
from llmtune.training.checkpoint import CheckpointStore, Progress
from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row, Rows
from llmtune.training.engine import Engine
from llmtune.training.inject import injected, kill_if_injected
from llmtune.training.objective import Batch
from llmtune.training.order import rows_of_step
from llmtune.training.schedule import rate_at
from llmtune.training.settings import Steps, TrainSettings

CHECKPOINT_SECONDS = 1800.0  # of work that a crash may cost, where the recipe does not say how often to save


@dataclass
class Clock:
    """Time spent, for metrics alone. `step_seconds` and `step_tokens` leave this process's first step out."""

    started: float = field(default_factory=time.monotonic)
    first_step: float | None = None
    step_seconds: float = 0.0
    step_tokens: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens read in a second of training, over all ranks; None before the second step."""
        return self.step_tokens / self.step_seconds if self.step_seconds else None


@dataclass
class Loop:
    """One run of training; `run` carries `progress` to the last step.

    micro_batch: rows a rank works on at once
    valid:       rows to validate on, or None
    """

    engine: Engine
    settings: TrainSettings
    steps: Steps
    rows: Rows
    valid: Sequence[Row] | None
    collator: Collator
    store: CheckpointStore
    seed: int
    micro_batch: int
    monitor: Monitor
    progress: Progress = field(default_factory=Progress)
    clock: Clock = field(default_factory=Clock)

    def run(self) -> None:
        """Train to the last step. Raises Stopped (with a checkpoint saved) and NotFinite (the last one kept)."""
        saved, saved_at = self.progress.step, time.monotonic()
        with self.monitor.bar("train", self.steps.total, "steps", self.progress.step) as bar:
            while True:
                step = self.progress.step
                try:
                    if self.valid is not None and self.steps.validates_after(step) and self.progress.validated < step:
                        self._validate(bar)
                    if saved < step and (self.steps.saves_after(step) or self._is_late(saved_at)):
                        self.store.save(self.engine, self.progress, last=step == self.steps.total)
                        saved, saved_at = step, time.monotonic()
                    if step == self.steps.total:
                        return
                    self._step(bar)
                except Stopped:
                    if saved < self.progress.step:
                        self.store.save(self.engine, self.progress, last=False)
                    raise

    def _step(self, bar: Bar) -> None:
        """One optimizer step."""
        progress, devices, began = self.progress, self.engine.devices, time.monotonic()
        step = progress.step
        ids = rows_of_step(step, len(self.rows), self.settings.batch_rows, self.seed)
        mine = [Sample(epoch, index, self.rows[index]) for epoch, index in ids[devices.rank :: devices.world]]
        batches, tokens = self._micro_batches(mine, -(-len(ids) // devices.world))
        weight, seen, room = devices.sum(
            [sum(float(self.engine.objective.weight(batch)) for batch in batches), tokens, _room(batches)]
        )
        torch.manual_seed(seed_of(self.seed, "step", step, devices.rank))
        sums = self._passes(batches, weight, math.nan if injected("nan", "step", step + 1) else 1.0)
        kill_if_injected("step", step + 1)
        loss = sums.pop("loss") / max(weight, 1.0)
        if not math.isfinite(loss):
            raise self._not_finite("loss", step)
        rate = self.settings.learning_rate * rate_at(step, self.steps.total, self.settings.schedule)
        norm = self.engine.update(rate)
        if not math.isfinite(norm) and not self.engine.forgives_overflow():
            raise self._not_finite("gradient", step)
        progress.step, progress.seen, progress.room = step + 1, progress.seen + int(seen), progress.room + int(room)
        self._tell_step(bar, loss, rate, norm, {name: value / max(weight, 1.0) for name, value in sums.items()})
        self._tick(began, int(seen))

    def _passes(self, batches: list[Batch], weight: float, fault: float) -> dict[str, float]:
        """Forward and backward over this rank's micro-batches; sums of loss and metrics over all ranks."""
        devices = self.engine.devices
        # Ranks' gradients are averaged: their number makes that a sum again.
        scale = devices.world / max(weight, 1.0) * fault
        sums: dict[str, torch.Tensor] = {}
        for place, batch in enumerate(batches):
            if place == 0 or devices.world == 1:  # asking the ranks costs them a wait
                self._safe_point()
            outcome = self.engine.train_on(batch, scale, last=place == len(batches) - 1)
            for name, value in {"loss": outcome.loss * fault, **outcome.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value
        totals = devices.sum([float(value) for value in sums.values()])
        return dict(zip(sums, totals, strict=True))

    def _validate(self, bar: Bar) -> None:
        """The loss on the held-out rows; keeps the weights when it is the lowest so far."""
        assert self.valid is not None
        progress, devices = self.progress, self.engine.devices
        samples = [Sample(0, index, row) for index, row in enumerate(self.valid)]
        batches, _ = self._micro_batches(samples[devices.rank :: devices.world], -(-len(samples) // devices.world))
        loss = weight = 0.0
        for batch in batches:
            self._safe_point()
            outcome = self.engine.evaluate(batch)
            loss, weight = loss + float(outcome.loss), weight + float(outcome.weight)
        loss, weight = devices.sum([loss, weight])
        loss /= max(weight, 1.0)
        if not math.isfinite(loss):
            raise self._not_finite("validation loss", progress.step - 1)
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss = loss
            if self.settings.validation.keep == "best":
                self.store.save_best(self.engine, progress.step)
                progress.best_step = progress.step
        progress.validated = progress.step
        progress.history.append({"step": progress.step, "valid_loss": loss})
        self.monitor.record("validation", step=progress.step, loss=loss)
        bar.show(valid=round(loss, 3))

    def _micro_batches(self, samples: list[Sample], rows: int) -> tuple[list[Batch], int]:
        """This rank's rows as collated micro-batches, and the tokens in them.

        rows: how many every rank must have, so that all pass as often; a rank with fewer adds one without targets.
        """
        seen = sum(len(sample.row.input_ids) for sample in samples)
        if len(samples) < rows:
            row = samples[0].row if samples else self.rows[0]
            idle = replace(row, trained=row.trained & False)
            samples = [*samples, *[Sample(0, 0, idle)] * (rows - len(samples))]
        parts = [samples[start : start + self.micro_batch] for start in range(0, rows, self.micro_batch)]
        return [self.collator(part) for part in parts], seen

    def _is_late(self, saved_at: float) -> bool:
        """Whether a crash now would lose too much; rank 0's clock counts for all. Never with `checkpoint_steps`."""
        if self.settings.checkpoint_steps is not None:
            return False
        devices = self.engine.devices
        return bool(devices.sum([float(devices.first and time.monotonic() - saved_at > CHECKPOINT_SECONDS)])[0])

    def _safe_point(self) -> None:
        """Stop here if rank 0 was asked to; all ranks together."""
        devices = self.engine.devices
        if devices.sum([float(devices.first and self.monitor.stop_requested())])[0]:
            raise Stopped()

    def _tell_step(self, bar: Bar, loss: float, rate: float, norm: float, metrics: dict[str, float]) -> None:
        progress = self.progress
        length = norm if math.isfinite(norm) else None  # fp16 overflow: this step updated nothing
        record = {
            "step": progress.step,
            "loss": loss,
            "lr": rate,
            "grad_norm": length,
            "tokens": progress.seen,
            **metrics,
        }
        progress.history.append(record)
        speed = self.clock.tokens_per_second
        self.monitor.record("step", **record, tokens_per_second=speed)
        bar.show(loss=round(loss, 3), **({"tokens/s": round(speed)} if speed else {}))
        bar.advance()

    def _tick(self, began: float, tokens: int) -> None:
        now = time.monotonic()
        if self.clock.first_step is None:
            self.clock.first_step = now - self.clock.started
        else:
            self.clock.step_seconds += now - began
            self.clock.step_tokens += tokens

    def _not_finite(self, what: str, step: int) -> NotFinite:
        kept = self.store.latest()
        return NotFinite(
            f"the {what} of step {step + 1} is not a finite number",
            fix="lower lr, lengthen schedule.warmup, or use precision bf16 or fp32; "
            + (f"the checkpoint before it ({kept.name}) is kept" if kept else "nothing was saved before it"),
        )


def spread(rows: Rows, most: int) -> list[Row]:
    """At most `most` rows, evenly spread, the same for the same rows."""
    if len(rows) <= most:
        return list(rows)
    return [rows[place * len(rows) // most] for place in range(most)]


def _room(batches: Sequence[Batch]) -> int:
    return sum(batch["input_ids"].numel() for batch in batches)

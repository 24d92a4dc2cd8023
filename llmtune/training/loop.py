"""The one training loop: steps over rows of tokens, with validation, guards, checkpoints and exact resume.

A step takes the next `batch_rows` rows (a pure function of its number), shares them among the ranks, and works through
them in micro-batches. The loss is divided by the number of targets of the whole step, over micro-batches and ranks, so
neither their size nor their number changes the gradient. All that decides a result follows from settings, seed, step
number and the losses before it; the clock decides only when a checkpoint more is saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from llmtune.errors import NotFinite, Stopped
from llmtune.monitor import Bar, Monitor
from llmtune.seeds import seed_of
from llmtune.training.checkpoint import CheckpointStore, Progress
from llmtune.training.clock import Clock
from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row, Rows
from llmtune.training.engine import Engine
from llmtune.training.guard import FIRST_ROWS, diverged, ends_high, gone_back, is_spike, lowest_median, rate_part
from llmtune.training.inject import fail_if_injected, faults_of, injected, kill_if_injected
from llmtune.training.objective import Batch
from llmtune.training.order import SampleId, rows_of_step
from llmtune.training.schedule import rate_at
from llmtune.training.settings import CHECKPOINT_SECONDS, Steps, TrainSettings


class Passed(NamedTuple):
    """What the passes over the rows of one step came to, over all ranks.

    loss, metrics: divided by the step's weight
    tokens, room:  read, without and with padding
    """

    loss: float
    metrics: dict[str, float]
    tokens: int
    room: int


class _Astray(Exception):
    """Training cannot go on from here; the reason, as words of a sentence."""


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

    def begin(self) -> None:
        """Before the first step: what is typical of the start, and a state to go back to. Raises Stopped, NotFinite."""
        if self.settings.guard is not None:
            rows = rows_of_step(0, len(self.rows), FIRST_ROWS, self.seed)
            self.progress.typical = self.loss_on(self.samples(rows), ("start",))
            if not math.isfinite(self.progress.typical):
                raise diverged("the loss before the first step is not a finite number", self.progress, None)
        self.store.save(self.engine, self.progress, last=False)

    def run(self) -> None:
        """Train to the last step. Raises Stopped (with a checkpoint saved) and NotFinite (the last good one kept)."""
        saved, saved_at = self.progress.step, time.monotonic()
        with self.monitor.bar("train", self.steps.total, "steps", self.progress.step) as bar:
            while True:
                step = self.progress.step
                try:
                    if self.valid is not None and self.steps.validates_after(step) and self.progress.validated < step:
                        self._validate(bar)
                    if saved < step and (self.steps.saves_after(step) or self._is_late(saved_at)):
                        self._save()
                        saved, saved_at = step, time.monotonic()
                    if step == self.steps.total:
                        if warning := ends_high(self.progress, self.settings.guard):
                            self.monitor.note(warning)
                        return
                    self._step(bar)
                except Stopped:
                    if saved < self.progress.step:
                        self._save()
                    raise
                except _Astray as astray:
                    self._go_back(bar, str(astray))
                    saved = self.progress.step

    def _step(self, bar: Bar) -> None:
        """One optimizer step."""
        progress, began = self.progress, time.monotonic()
        step, batch = progress.step, progress.step + progress.skipped
        ids = rows_of_step(batch, len(self.rows), self.settings.batch_rows, self.seed)
        passed = self.gradient(ids, ("step", step), faults_of(batch + 1))
        kill_if_injected("step", batch + 1)
        rate = self.settings.learning_rate * rate_part(progress)
        rate *= rate_at(step, self.steps.total, self.settings.schedule)
        norm = self.engine.update(rate)
        if not math.isfinite(passed.loss):
            self._leave_out("loss")
        elif not math.isfinite(norm) and not self.engine.forgives_overflow():
            self._leave_out("gradient")
        else:
            progress.step = step + 1
            progress.seen, progress.room = progress.seen + passed.tokens, progress.room + passed.room
            self._tell_step(bar, passed, rate, norm)
            self.clock.tick(began, passed.tokens)

    def gradient(self, ids: Sequence[SampleId], draw: tuple[object, ...], faults: tuple[float, float]) -> Passed:
        """Forward and backward over these rows, shared among the ranks: all that comes before the update.

        draw:   names the random numbers of these passes (dropout)
        faults: what loss and gradient are multiplied by, for tests; see inject.py
        """
        devices = self.engine.devices
        batches, tokens = self._micro_batches(self.samples(ids))
        weight = sum(float(self.engine.objective.weight(batch)) for batch in batches)
        weight, seen, room = devices.sum([weight, tokens, sum(batch["input_ids"].numel() for batch in batches)])
        self._seed(draw)
        sums = {name: total / max(weight, 1.0) for name, total in self._passes(batches, weight, faults).items()}
        return Passed(sums.pop("loss"), sums, int(seen), int(room))

    def _passes(self, batches: list[Batch], weight: float, faults: tuple[float, float]) -> dict[str, float]:
        """Forward and backward over this rank's micro-batches; sums of loss and metrics over all ranks."""
        devices = self.engine.devices
        # Ranks' gradients are averaged: their number makes that a sum again.
        scale = devices.world / max(weight, 1.0) * faults[1]
        sums: dict[str, torch.Tensor] = {}
        for place, batch in enumerate(batches):
            if place == 0 or devices.world == 1:  # asking the ranks costs them a wait
                self._safe_point()
            fail_if_injected(len(batch["input_ids"]))
            outcome = self.engine.train_on(batch, scale, last=place == len(batches) - 1)
            for name, value in {"loss": outcome.loss * faults[0], **outcome.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value
        totals = devices.sum([float(value) for value in sums.values()])
        return dict(zip(sums, totals, strict=True))

    def _validate(self, bar: Bar) -> None:
        """The loss on the held-out rows; keeps the weights when it is the lowest so far."""
        assert self.valid is not None
        progress = self.progress
        loss = self.loss_on([Sample(None, index, row) for index, row in enumerate(self.valid)])
        if injected("nan", "validation", progress.step):
            loss = math.nan
        if not math.isfinite(loss):
            raise self._astray(f"the validation loss after step {progress.step} is not a finite number")
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss = loss
            if self.settings.validation.keep == "best":
                self.store.save_best(self.engine, progress.step)
                progress.best_step = progress.step
        progress.validated = progress.step
        progress.history.append({"step": progress.step, "valid_loss": loss})
        self.monitor.record("validation", step=progress.step, loss=loss)
        bar.show(valid=round(loss, 3))

    def loss_on(self, samples: Sequence[Sample], draw: tuple[object, ...] | None = None) -> float:
        """The loss of these rows, shared among the ranks, forward only: that of a validation; with `draw` (see
        `gradient`) that of a step. The two differ by dropout, and by a teacher or routers to learn from."""
        devices = self.engine.devices
        if draw is not None:
            self._seed(draw)
        loss = weight = 0.0
        for batch in self._micro_batches(samples)[0]:
            self._safe_point()
            outcome = self.engine.evaluate(batch, training=draw is not None)
            loss, weight = loss + float(outcome.loss), weight + float(outcome.weight)
        loss, weight = devices.sum([loss, weight])
        return loss / max(weight, 1.0)

    def _seed(self, draw: tuple[object, ...]) -> None:
        torch.manual_seed(seed_of(self.seed, *draw, self.engine.devices.rank))

    def samples(self, ids: Sequence[SampleId]) -> list[Sample]:
        """These rows of the train split."""
        return [Sample(epoch, index, self.rows[index]) for epoch, index in ids]

    def _micro_batches(self, whole: Sequence[Sample]) -> tuple[list[Batch], int]:
        """This rank's part of the rows as collated micro-batches, and the tokens in them.

        Every rank has as many, so that all pass as often; one with fewer rows adds some without targets.
        """
        devices = self.engine.devices
        samples, rows = list(whole[devices.rank :: devices.world]), -(-len(whole) // devices.world)
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

    def _tell_step(self, bar: Bar, passed: Passed, rate: float, norm: float) -> None:
        progress, guard = self.progress, self.settings.guard
        length = norm if math.isfinite(norm) else None  # fp16 overflow: this step updated nothing
        record = {
            "step": progress.step,
            "loss": passed.loss,
            "lr": rate,
            "grad_norm": length,
            "tokens": progress.seen,
            **passed.metrics,
        }
        spike = guard is not None and is_spike(passed.loss, progress, guard)
        progress.history.append({**record, "spike": True} if spike else record)
        speed = self.clock.tokens_per_second
        self.monitor.record("step", **record, tokens_per_second=speed)
        bar.show(loss=round(passed.loss, 3), **({"tokens/s": round(speed)} if speed else {}))
        bar.advance()
        if spike:
            typical = f"{passed.loss:.3g}, where {progress.typical:.3g} was typical"
            self._count_bad(f"the loss shot up (at step {progress.step} it is {typical})")
        else:
            progress.bad = 0
            progress.typical = lowest_median(progress)

    def _leave_out(self, what: str) -> None:
        """Nothing was updated by this batch: the next one takes its place."""
        progress = self.progress
        reason = f"the {what} of step {progress.step + 1} is not a finite number"
        if self.settings.guard is None:
            raise self._astray(reason)
        progress.skipped += 1
        progress.history.append({"step": progress.step + 1, "skipped": reason})
        self.monitor.record("skipped", step=progress.step + 1, reason=reason)
        self.monitor.note(f"{reason}: its batch is left out")
        self._count_bad(reason)

    def _count_bad(self, reason: str) -> None:
        guard = self.settings.guard
        assert guard is not None
        self.progress.bad += 1
        if self.progress.bad >= guard.patience:
            raise self._astray(reason)

    def _astray(self, reason: str) -> NotFinite | _Astray:
        """What to raise where training cannot go on: the end of it where it went back too often."""
        progress, guard = self.progress, self.settings.guard
        if guard is not None and progress.roll_backs < guard.roll_backs:
            return _Astray(reason)
        return diverged(reason, progress, self.store.latest() if guard is None else self.store.after(progress.anchor))

    def _go_back(self, bar: Bar, reason: str) -> None:
        """Return to the last good state, and go on with the batches after those that led here."""
        lost = self.progress
        self.progress = gone_back(lost, self.store.put_back(self.engine, lost.anchor), reason)
        bar.advance(self.progress.step - lost.step)
        self.monitor.record("roll_back", step=lost.step, to=self.progress.step, reason=reason)
        part = rate_part(self.progress)
        self.monitor.note(
            f"{reason}: training goes back to step {self.progress.step}, leaves out the batches since then"
            + ("" if part == 1 else f", and goes on at {part:g} of the learning rate")
        )

    def _save(self) -> None:
        """A checkpoint of where training stands; one to go back to, if that is due here and all is well."""
        progress, steps = self.progress, self.steps
        last = progress.step == steps.total
        if last or not steps.anchor or (steps.is_anchor(progress.step) and not progress.bad):
            progress.anchor = progress.step
        self.store.save(self.engine, progress, last=last)


def spread(rows: Rows, most: int) -> list[Row]:
    """At most `most` rows, evenly spread, the same for the same rows."""
    if len(rows) <= most:
        return list(rows)
    return [rows[place * len(rows) // most] for place in range(most)]

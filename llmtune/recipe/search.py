"""The recipe's `search:` block: which fields to vary, how, and what the best is by. Imports no torch and no optuna."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from llmtune.settings import Settings

Number = StrictInt | StrictFloat

TRIALS = 20  # where the recipe does not say
PRUNE_AFTER = 4


class Dimension(Settings):
    """The values to try of one field: `choices`, or the range from `low` to `high`, both ends included."""

    choices: list[Any] | None = Field(
        None, min_length=1, description="The values themselves, of any kind, blocks and null among them; no range then."
    )
    low: Number | None = Field(None, description="Lowest value of a range.")
    high: Number | None = Field(None, description="Highest value of a range.")
    step: Number | None = Field(
        None,
        gt=0,
        description="Distance of two values; default 1 for whole numbers, else any number between will do.",
    )
    log: bool = Field(False, description="Look at ratios, not at differences: for rates and other orders of magnitude.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("choices stand alone; low, high, step and log describe a range")
            if any(one == other for one, other in itertools.combinations(self.choices, 2)):  # for Optuna 1 is true
                raise ValueError("a choice is here twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected choices: […], or low: and high:")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log goes with a low above 0 and without a step")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step ({self.step}) is longer than the range")
        return self

    def points(self, whole: bool) -> list[Any] | None:
        """Every value there is, in order; None for a range of any numbers. whole: the field takes whole numbers."""
        if self.choices is not None:
            return list(self.choices)
        step = self.step or (1 if whole else None)
        if step is None:
            return None
        assert self.low is not None
        assert self.high is not None
        low, high, step_exact = (Decimal(str(number)) for number in (self.low, self.high, step))
        values = (low + step_exact * index for index in range(int((high - low) / step_exact) + 1))
        return [int(value) if whole else float(value) for value in values]

    def extremes(self) -> list[Any]:
        """Values that tell whether the field takes them all: the choices, or both ends of the range."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]


WRONG = Dimension(choices=[None])  # stands in a space for values that are wrong in themselves


class SearchSettings(Settings):
    """A study over fields of this recipe: many trials, each a run as far as what it is judged by."""

    space: dict[str, Dimension] = Field(
        min_length=1, description="Field, named as on the command line (`train.lr`), → the values to try."
    )
    minimize: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z0-9_]+$",
        description="What the best trial has least of: `<stage>.<figure>`, a figure that the stage measures "
        "(`train.valid_loss`) or one of its model's scores (`train.domain_perplexity`).",
    )
    maximize: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*\.[A-Za-z0-9_]+$",
        description="Likewise, what it has most of (`train.domain_accuracy`). One of the two.",
    )
    sampler: Literal["grid", "random", "tpe"] = Field(
        "tpe",
        description="Who chooses: grid goes through all combinations in order; random draws; tpe draws four times, "
        "then where the finished trials were good (tree-structured Parzen estimator, Bergstra et al. 2011).",
    )
    trials: int | None = Field(
        None, ge=1, description=f"How many trials in all; default {TRIALS}. Not for a grid, which has its own number."
    )
    pruner: Literal["median"] | None = Field(
        None,
        description="median: stop a trial whose lowest validation loss so far is above the median of the finished "
        "trials at the same step. The losses are those of the last training before the figure.",
    )
    prune_after: int | None = Field(
        None, ge=1, description=f"Trials to finish before one may be pruned; default {PRUNE_AFTER}. Only with a pruner."
    )

    def misfits(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """(settings, what is wrong between them): every one, so that none hides another. Who reads a recipe asks."""
        if (self.minimize is None) == (self.maximize is None):
            what = "expected one of minimize: and maximize:, for example minimize: train.valid_loss"
            yield ("minimize", "maximize"), what
        if self.sampler == "grid" and self.trials is not None:
            yield ("trials", "sampler"), "a grid tries every combination; trials is for random and tpe"
        if self.sampler == "grid" and any(dimension.log for dimension in self.space.values()):
            what = "a grid takes every value of a range, so log has no meaning; write the choices"
            yield ("sampler", "space"), what
        if self.prune_after is not None and self.pruner is None:
            yield ("prune_after", "pruner"), "prune_after has no meaning without a pruner"

    @property
    def objective(self) -> str:
        """`<stage>.<figure>`; empty where the block is wrong in not saying one."""
        return "" if self.minimize and self.maximize else self.minimize or self.maximize or ""

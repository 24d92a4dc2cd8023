"""Which values a trial gets: a pure function of the seed, the trial's number and the trials that finished before it.

Every trial has a sampler of its own, seeded by its number, over a study in memory that holds the finished trials. So
nothing of a sampler's state is lost by a kill, and a trial that was killed gets the same values again.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llmtune.extras import need
from llmtune.recipe import Recipe
from llmtune.recipe.search import PRUNE_AFTER, TRIALS, Dimension
from llmtune.recipe.space import is_whole
from llmtune.seeds import seed_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

RANDOM_FIRST = 4  # trials that TPE draws at random before it looks at what was good


class Space:
    """The search space of a recipe: fields, the distributions they have in Optuna, and who chooses."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.search is not None
        self.settings, self.seed = recipe.search, recipe.seed
        self.whole = {key: is_whole(key, dimension, recipe) for key, dimension in self.settings.space.items()}
        self.distributions = {
            key: _distribution(dimension, self.whole[key]) for key, dimension in self.settings.space.items()
        }

    @property
    def direction(self) -> str:
        """As Optuna names it."""
        return "minimize" if self.settings.minimize else "maximize"

    @property
    def trials(self) -> int:
        """How many trials the study has in all."""
        if self.settings.sampler == "grid":
            return math.prod(len(values) for values in self._grid().values())
        return self.settings.trials or TRIALS

    def ask(self, number: int, finished: Sequence[FrozenTrial]) -> Trial:
        """Trial `number` (from 0), to be told of losses and asked whether to be pruned, in a study in memory that ends
        with it. finished: the trials before it, in order."""
        optuna = quiet_optuna()
        study = optuna.create_study(
            direction=self.direction, sampler=self._sampler(number), pruner=self._pruner(finished)
        )
        study.add_trials(finished)
        if self.settings.sampler == "grid":
            grid = self._grid()
            point = next(itertools.islice(itertools.product(*grid.values()), number, None))
            study.enqueue_trial(dict(zip(grid, point, strict=True)))
        trial: Trial = study.ask(self.distributions)
        return trial

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the recipe's fields get, from what Optuna chose."""
        return {key: self._value(key, params[key]) for key in self.settings.space}

    def _value(self, key: str, chosen: Any) -> Any:
        dimension = self.settings.space[key]
        if dimension.choices is not None:
            return next(value for value in dimension.choices if _label(value) == chosen)
        if self.whole[key] or dimension.step is None:
            return chosen
        low, step = Decimal(str(dimension.low)), Decimal(str(dimension.step))  # 0.15, and not 0.15000000000000002
        return float(low + step * round((Decimal(chosen) - low) / step))

    def _grid(self) -> dict[str, list[Any]]:
        points = {key: one.points(self.whole[key]) for key, one in self.settings.space.items()}
        return {key: [_label(value) for value in values or []] for key, values in points.items()}

    def _sampler(self, number: int) -> BaseSampler:
        samplers = quiet_optuna().samplers
        seed = seed_of(self.seed, "trial", number) % 2**32
        if self.settings.sampler == "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST)  # type: ignore[no-any-return]
        return samplers.RandomSampler(seed=seed)  # type: ignore[no-any-return]

    def _pruner(self, finished: Sequence[FrozenTrial]) -> BasePruner:
        pruners = quiet_optuna().pruners
        if self.settings.pruner is None:
            return pruners.NopPruner()  # type: ignore[no-any-return]
        return pruners.MedianPruner(self.settings.prune_after or PRUNE_AFTER)  # type: ignore[no-any-return]


def quiet_optuna() -> Any:
    """The module `optuna`, which says nothing but warnings; raises MissingExtra where it is not installed."""
    optuna: Any = need("optuna", "a recipe with `search:`")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(dimension: Dimension, whole: bool) -> BaseDistribution:
    distributions = quiet_optuna().distributions
    if dimension.choices is not None:
        return distributions.CategoricalDistribution([_label(value) for value in dimension.choices])  # type: ignore[no-any-return]
    low, high = dimension.low, dimension.high
    if dimension.step is not None and (points := dimension.points(whole)):
        high = points[-1]  # Optuna warns where the last step does not reach it
    if whole:
        return distributions.IntDistribution(low, high, log=dimension.log, step=dimension.step or 1)  # type: ignore[no-any-return]
    return distributions.FloatDistribution(low, high, log=dimension.log, step=dimension.step)  # type: ignore[no-any-return]


def _label(value: Any) -> Any:
    """A choice as Optuna keeps it: plain values as they are, blocks and lists as their JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value

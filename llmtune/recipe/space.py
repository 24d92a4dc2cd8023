"""The search space of a recipe, checked when the recipe is read: a field that does not exist, or takes no such value,
is a mistake in the recipe and not a failed trial later."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from llmtune.evaluate.gates import METRICS
from llmtune.recipe.faults import UNKNOWN_KEY, nearest, unwrap
from llmtune.recipe.gates import size_alone, unmeasured
from llmtune.recipe.graph import EVALUATION, MODEL_KINDS, needed_for, resolve_inputs
from llmtune.recipe.overrides import set_field
from llmtune.recipe.recipe import Recipe
from llmtune.recipe.search import WRONG, Dimension
from llmtune.recipe.source import Path, Place, Problem, Source
from llmtune.stages.stage import LaunchedStage

_OF_THE_RUN = ("name", "search", "stages", "gates", "report")  # change nothing of what a trial measures
_OF_A_STAGE = ("id", "gates")  # likewise


def search_problems(
    source: Source, recipe: Recipe, read: Callable[[Source], Recipe | None], *, scores_known: bool, right: bool
) -> list[Problem]:
    """What is wrong with the `search:` of a recipe, of which only the stages' kinds and ids need be known.

    read:         makes the recipe of a source
    scores_known: the recipe's own blocks are right, so what it measures of a model is known
    right:        the recipe is right but for its search, so what is wrong in a trial comes of the search
    """
    assert recipe.search is not None
    problems = []
    judged = bool(recipe.search.objective)
    if fault := _objective_problem(recipe, scores_known) if judged else None:
        way = "minimize" if recipe.search.minimize else "maximize"
        problems.append(Problem(source.place(("search", way)), f"search.{way}: {fault}"))
        judged = False
    probes = _Probes(source, recipe, read)
    probes.run()
    problems += [problem for found in probes.problems.values() for problem in found]
    if right and not probes.problems and not probes.made:
        problems += probes.between
    for key, dimension in recipe.search.space.items():
        if key not in probes.problems:
            fault = _without_effect(key, recipe, probes.needed if judged else None)
            fault = fault or (None if dimension is WRONG else _form_problem(key, dimension, recipe))
            place = source.place(("search", "space", key), key=True)
            problems += [Problem(place, f"search.space.{key}: {fault}")] if fault else []
    if right and judged and recipe.search.pruner and watched_stage(recipe) is None:
        text = f"search.pruner: nothing is trained on the way to {recipe.search.objective}, so no loss can be watched"
        problems.append(Problem(source.place(("search", "pruner")), text))
    return problems


def with_values(source: Source, values: Mapping[str, Any], places: Mapping[str, Place] | None = None) -> Source:
    """`source` without its `search:` and with the values of these fields in place (it is changed, and returned); each
    stands where its line of the space does, or at its place in `places`."""
    where = {key: source.place(("search", "space", key), key=True) for key in values} | dict(places or {})
    source.data.pop("search", None)
    for key, value in values.items():
        if fault := set_field(source, key, copy.deepcopy(value), where[key]):
            source.problems.append(Problem(where[key], fault))
    return source


def objective_node(recipe: Recipe) -> tuple[str, str]:
    """(id of the node, name of its metric) that tells a trial's value: a score where the figure is one of a model's
    scores, else what the stage itself measures."""
    assert recipe.search is not None
    stage, _, figure = recipe.search.objective.partition(".")
    makes = next((one.makes for one in recipe.stages if one.id == stage), None)
    return stage + EVALUATION if makes in MODEL_KINDS and figure in METRICS else stage, figure


def watched_stage(recipe: Recipe) -> str | None:
    """The id of the last training on the way to the objective, whose validation losses a pruner looks at."""
    nodes = needed_for(resolve_inputs(recipe), objective_node(recipe)[0])
    return next((node.id for node in reversed(nodes) if isinstance(node.stage, LaunchedStage)), None)


def is_whole(key: str, dimension: Dimension, recipe: Recipe) -> bool:
    """Whether the values of a field are whole numbers: it takes no others, or its range is written in them, as
    `keep_layers: {low: 20, high: 28}`, where 1 is a layer and 1.0 all of them."""
    kinds = _kinds_at(key, recipe)
    numbers = [number for number in (dimension.low, dimension.high, dimension.step) if number is not None]
    return int in kinds and (float not in kinds or (bool(numbers) and not any(isinstance(n, float) for n in numbers)))


def _objective_problem(recipe: Recipe, scores_known: bool) -> str | None:
    assert recipe.search is not None
    stage, _, figure = recipe.search.objective.partition(".")
    ids = [str(one.id) for one in recipe.stages]
    if stage not in ids:
        return f"no stage '{stage}'{nearest(stage, ids)}"
    makes = recipe.stages[ids.index(stage)].makes
    if figure in METRICS and makes not in MODEL_KINDS:
        return f"{figure} is a score of a model, and '{stage}' makes a {makes}"
    if figure not in METRICS or not scores_known:
        return None  # what a stage measures is known when it has run
    if recipe.evaluate is None:
        return f"{figure} is a score, and nothing is scored in this recipe; add `evaluate: {{}}`"
    reason = unmeasured(figure, recipe) or size_alone(figure, stage, recipe)
    return f"{figure} is not measured here: {reason}" if reason else None


class _Probes:
    """Reads the recipe with each value of each field in its turn, the others at their first.

    problems: what is wrong with a field or its values, by its key
    between:  what is wrong elsewhere: in the recipe, or between the values of several fields. Where a probe is right,
              that is a trial that fails, where others do not
    made:     a probe is right
    needed:   the ids of all nodes that the objective needs in one of these recipes
    """

    def __init__(self, source: Source, recipe: Recipe, read: Callable[[Source], Recipe | None]) -> None:
        assert recipe.search is not None
        self._source = dataclasses.replace(source, problems=[])  # what is known to be wrong is told already
        self._search, self._read = recipe.search, read
        self.problems: dict[str, list[Problem]] = {}
        self.between: list[Problem] = []
        self.made = False
        self.needed: set[str] = set()

    def run(self) -> None:
        space = {key: dimension for key, dimension in self._search.space.items() if dimension is not WRONG}
        for key in self._search.space.keys() - space.keys():
            self._probe_name(key)
        keys = {key: self._source.place(("search", "space", key), key=True) for key in space}
        first = {key: dimension.extremes()[0] for key, dimension in space.items()}
        self._probe(first, keys)
        for key, dimension in space.items():
            sound = {other: value for other, value in first.items() if other not in self.problems or other == key}
            for index, value in enumerate(dimension.extremes()):
                place = self._source.place(("search", "space", key, *_where(dimension, index)))
                self._probe(sound | {key: value}, keys | {key: place})

    def _probe_name(self, key: str) -> None:
        """Whether there is such a field, where its values are wrong in themselves: by null, which it need not take."""
        trial = with_values(copy.deepcopy(self._source), {key: None})
        if not trial.problems:
            self._read(trial)
            trial.problems = [problem for problem in trial.problems if problem.text.startswith(UNKNOWN_KEY)]
        place = self._source.place(("search", "space", key), key=True)
        if found := [problem for problem in trial.problems if problem.place == place]:
            self.problems[key] = found

    def _probe(self, values: dict[str, Any], places: dict[str, Place]) -> None:
        trial = with_values(copy.deepcopy(self._source), values, places)
        made = self._read(trial)
        key_at = {place: key for key, place in places.items()}
        for problem in trial.problems:
            key = key_at.get(problem.place)
            found = self.between if key is None else self.problems.setdefault(key, [])
            if problem.text not in [known.text for known in found]:
                found.append(problem)
        if made is not None:
            self.made = True
            made = made.model_copy(update={"search": self._search})
            self.needed |= {node.id for node in needed_for(resolve_inputs(made), objective_node(made)[0])}


def _where(dimension: Dimension, index: int) -> Path:
    """The place of `dimension.extremes()[index]` in its block."""
    return ("choices", index) if dimension.choices is not None else (("low", "high")[index],)


def _without_effect(key: str, recipe: Recipe, needed: set[str] | None) -> str | None:
    """Why the field can change nothing of what the trials are judged by; None where it can. needed: None where they are
    judged by nothing that is right."""
    assert recipe.search is not None
    objective, top = recipe.search.objective, key.split(".")[0]
    if top in _OF_THE_RUN or (top not in Recipe.model_fields and key.split(".")[1] in _OF_A_STAGE):
        return "trials cannot differ in this"
    if inner := next((other for other in recipe.search.space if other.startswith(f"{key}.")), None):
        return f"'{inner}' is a part of this, and has values of its own; expected one of the two"
    if needed is None:
        return None
    if top == "evaluate":
        scored = objective_node(recipe)[0].endswith(EVALUATION)
        return None if scored else f"{objective} is measured by the stage itself, whatever is evaluated"
    if top in Recipe.model_fields or top in needed or not needed:  # nothing is known where no probe can be read
        return None
    return f"'{top}' has no part in {objective}, which comes of {', '.join(sorted(needed))}"


def _form_problem(key: str, dimension: Dimension, recipe: Recipe) -> str | None:
    assert recipe.search is not None
    kinds, whole = set(_kinds_at(key, recipe)), is_whole(key, dimension, recipe)
    if dimension.choices is None and not {int, float} & kinds:
        return "the field takes no numbers, so it has no range; expected choices: […]"
    numbers = [number for number in (dimension.low, dimension.high, dimension.step) if number is not None]
    if int in kinds and any(isinstance(number, float) for number in numbers):
        if float not in kinds:
            return "the field takes whole numbers; write low, high and step as such"
        if any(isinstance(number, int) and number > 1 for number in numbers):
            return "a whole number is something else here than a share; write low, high and step all as one of the two"
    if recipe.search.sampler == "grid" and dimension.points(whole) is None:
        return "a grid needs a step here, or choices: […]; any number will do between low and high"
    return None


def _kinds_at(key: str, recipe: Recipe) -> list[type]:
    """The plain types that the field named `key` takes."""
    first, *rest = key.split(".")
    stage = next((stage for stage in recipe.stages if stage.id == first), None)
    kinds: list[Any] = [Recipe] if first in Recipe.model_fields or stage is None else [type(stage)]
    for part in rest if kinds != [Recipe] else [first, *rest]:
        if not part.isdigit():  # the items of a list are of the kinds of the list
            kinds = [inner for kind in kinds for annotation in _fields(kind, part) for inner in unwrap(annotation)]
    return kinds


def _fields(kind: Any, name: str) -> Iterator[Any]:
    """The annotations of the fields so named, where `kind` is a block of settings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from (field.annotation for key, field in kind.model_fields.items() if name in (key, field.alias))

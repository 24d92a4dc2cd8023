"""Read a recipe: every problem of it in one error, each with file, line and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmtune import stages as stage_registry
from llmtune.errors import RecipeError
from llmtune.files import check_name
from llmtune.recipe.adapters import adapter_problems
from llmtune.recipe.faults import booleans_as_numbers, nearest, problems_of, show
from llmtune.recipe.gates import gate_problems
from llmtune.recipe.graph import input_problems
from llmtune.recipe.overrides import apply_overrides, kind_and_id
from llmtune.recipe.recipe import Recipe, id_problems, stage_ids
from llmtune.recipe.search import WRONG, Dimension, SearchSettings
from llmtune.recipe.source import Path as PathInside
from llmtune.recipe.source import Place, Problem, Source, parse
from llmtune.recipe.space import search_problems, with_values
from llmtune.stages.stage import Stage

RECIPE_FILE = "recipe.yaml"
Block = TypeVar("Block", bound=BaseModel)


@dataclass(frozen=True)
class Written:
    """A recipe as it was written: the text of its file, and the `key.path=value` overrides of a command line.

    Paths in it are relative to its folder and absolute in the recipes made of it."""

    file: Path
    text: bytes
    overrides: tuple[str, ...] = ()

    def recipe(self) -> Recipe:
        """The recipe, checked whole: stage ids are filled, inputs are known to resolve. Raises RecipeError listing
        every problem, one a line: `file:line:column: what, expected what`."""
        source = self.source()
        recipe = self._read(source)
        if recipe is None or source.problems:
            raise _error(source)
        return recipe

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe without its `search:`, with the values of these fields in place: one trial. Raises RecipeError."""
        source = self.source()
        recipe = self._read(with_values(source, values))
        if recipe is None or source.problems:
            raise _error(source)
        return recipe

    def source(self) -> Source:
        """The parsed text with the overrides applied. Raises RecipeError when there is nothing to look into."""
        source = parse(self.text, str(self.file))
        _check_top(source)
        apply_overrides(source, self.overrides)
        return source

    def _read(self, source: Source) -> Recipe | None:
        return _Reader(source, self.file.resolve().parent).read()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path` (a file, or a folder that holds recipe.yaml) with `key.path=value` overrides applied; see
    `Written.recipe`."""
    return read_written(path, overrides).recipe()


def read_written(path: Path, overrides: Sequence[str] = ()) -> Written:
    """What is written at `path` (a file, or a folder that holds recipe.yaml), not yet looked into. Raises RecipeError
    when it cannot be read, LlmtuneError where a name on the way to it is not UTF-8."""
    file = recipe_file(path)
    check_name(file)
    try:
        return Written(file, file.read_bytes(), tuple(overrides))
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(file)) from error


def recipe_file(path: Path) -> Path:
    """The YAML file that `path` means; raises RecipeError when there is none."""
    if path.is_dir():
        if not (path / RECIPE_FILE).is_file():
            held = sorted(found.name for found in path.iterdir() if found.suffix in {".yaml", ".yml"})
            fix = f"name one of its files: {', '.join(held)}" if held else f"a recipe's folder holds a {RECIPE_FILE}"
            raise RecipeError(f"no {RECIPE_FILE} in this folder", where=str(path), fix=fix)
        return path / RECIPE_FILE
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else Path()
        names = [found.name for found in folder.iterdir() if found.suffix in {".yaml", ".yml"} or found.is_dir()]
        hint = nearest(path.name, names)
        known = "`llmtune recipes` lists those that come along"
        raise RecipeError("no such recipe", where=str(path), fix=hint[2:] if hint.startswith("; did") else known)
    return path


def _check_top(source: Source) -> None:
    """End early where there is nothing to look into: not YAML, empty, or not a block."""
    if source.data is None and not source.problems:
        source.problems.append(Problem(Place(source.name), "is empty; expected a recipe (name, model, stages)"))
    elif source.data is not None and not isinstance(source.data, dict):
        found = "a list" if isinstance(source.data, list) else f"{str(source.data)[:40]!r}"
        text = f"found {found}; expected a recipe: 'key: value' lines (name, model, stages)"
        source.problems.append(Problem(source.place(()), text))
    if not isinstance(source.data, dict):
        raise _error(source)


def _error(source: Source) -> RecipeError:
    ordered = sorted(source.problems, key=lambda problem: (problem.place.line or 1 << 30, problem.place.column or 0))
    lines = list(dict.fromkeys(map(str, ordered)))
    return RecipeError(lines[0] if len(lines) == 1 else f"{len(lines)} problems\n" + "\n".join(lines))


class _Reader:
    """Builds the recipe out of a source, block by block, so that a fault in one hides none in another."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.context = {"folder": folder}

    def read(self) -> Recipe | None:
        """The recipe; None when anything is wrong (then `source.problems` says what)."""
        data = dict(self.source.data)
        searched = data.pop("search", None)
        written = data.get("stages") or []
        built: list[Stage | None] = []
        if isinstance(written, list):
            built = [self.stage(index, item) for index, item in enumerate(written)]
            self.check_ids(written)
        if built:
            data["stages"] = [stage for stage in built if stage is not None]
        recipe = self.top(data, stages_checked=bool(built))
        stages = self.as_far_as_known(written, built) if built else None
        if stages is not None:
            self.check_between(recipe, stages, built)
        if searched is not None:
            search = self.search(searched, recipe, stages)
            recipe = recipe and recipe.model_copy(update={"search": search})
        return recipe if not self.source.problems else None

    def as_far_as_known(self, written: list[Any], built: list[Stage | None]) -> list[Stage] | None:
        """The stages, a wrong one as its kind alone, so that what is wrong between stages is found beside what is wrong
        in them. None where that would tell what is not so: a stage is of no known kind, or an id is taken twice."""
        kinds = stage_registry.stage_kinds()
        named = [kind_and_id(item) for item in written]
        known = [(kind, name) for kind, name in named if kind in kinds]
        ids = stage_ids([(str(kind), name) for kind, name in known])
        if len(known) < len(written) or id_problems(ids):
            return None
        return [
            kinds[str(kind)].model_construct(id=name) if stage is None else stage.model_copy(update={"id": name})
            for stage, (kind, _), name in zip(built, known, ids, strict=True)
        ]

    def check_between(self, recipe: Recipe | None, stages: list[Stage], built: list[Stage | None]) -> None:
        """The inputs of the stages that are right in themselves; gates and adapters where the recipe's own blocks
        are."""
        wrong = {index for index, stage in enumerate(built) if stage is None}
        for problem in input_problems(stages, wrong):
            block = ("stages", problem.index, stages[problem.index].kind)
            self.fault((*block, problem.key) if problem.key else block, problem.text, key=problem.key is None)
        if recipe is not None:
            recipe = recipe.model_copy(update={"stages": stages})
            for path, text in (*gate_problems(recipe), *adapter_problems(recipe)):
                self.fault(path, text)

    def search(self, written: Any, recipe: Recipe | None, stages: list[Stage] | None) -> SearchSettings | None:
        """The block `search:`, checked as far as it and the rest of the recipe are right."""
        right = not self.source.problems
        search = self.search_block(written)
        if search is not None and stages is not None:
            found: dict[str, Any] = {"stages": stages, "search": search}
            known = recipe.model_copy(update=found) if recipe else Recipe.model_construct(**found)
            self.source.problems += search_problems(
                self.source, known, self.read_other, scores_known=recipe is not None, right=right
            )
        return search

    def search_block(self, written: Any) -> SearchSettings | None:
        """The block with those of its settings that are right in themselves; for the values of a field that are not
        stands WRONG."""
        space = written.get("space") if isinstance(written, dict) else None
        if isinstance(space, dict):
            read = {key: self.block(Dimension, item, ("search", "space", key)) for key, item in space.items()}
            written = written | {"space": {key: found or WRONG for key, found in read.items()}}
        errors: list[ErrorDetails] = []
        search = self.block(SearchSettings, written, ("search",), errors)
        wrong = {error["loc"][0] for error in errors if error["loc"]}
        if search is None and isinstance(written, dict):
            right = (SearchSettings.model_fields.keys() - wrong) & written.keys()
            search = SearchSettings.model_construct(**{"space": {}} | {key: written[key] for key in right})
        for name in wrong - SearchSettings.model_fields.keys():  # one that does not exist is another, misspelt
            wrong |= set(get_close_matches(str(name), SearchSettings.model_fields))
        if search is not None:
            for names, text in search.misfits():
                if wrong.isdisjoint(names):
                    self.fault(("search",), f"search: {text}", key=True)
        return search

    def read_other(self, source: Source) -> Recipe | None:
        """The recipe of another source of the same folder."""
        return _Reader(source, self.folder).read()

    def top(self, data: dict[str, Any], stages_checked: bool) -> Recipe | None:
        """Everything but the stages' own settings, which are known to be right or wrong already; None when it is
        wrong."""
        self.source.problems += booleans_as_numbers(data, Recipe, self.source)
        try:
            return Recipe.model_validate(data, context=self.context, by_alias=True, by_name=False)
        except ValidationError as error:
            details = error.errors(include_url=False)
            own = [fault for fault in details if not stages_checked or fault["loc"][:1] != ("stages",)]
            self.source.problems += problems_of(own, Recipe, self.source)
            return None

    def stage(self, index: int, item: Any) -> Stage | None:
        """One entry of `stages`: `- kind` or `- kind: {settings}`."""
        here: tuple[str | int, ...] = ("stages", index)
        if isinstance(item, str):
            item = {item: None}
        if not isinstance(item, dict) or len(item) != 1:
            found = f"keys {', '.join(map(repr, item))}" if isinstance(item, dict) and item else show(item)
            expected = "expected one key, the kind of the stage (`- train: …`)"
            self.fault(here, f"stage {index + 1}: found {found}, {expected}")
            return None
        kind, settings = next(iter(item.items()))
        kinds = stage_registry.stage_kinds()
        if kind not in kinds:
            self.fault((*here, kind), f"unknown stage '{kind}'{nearest(kind, kinds)}", key=True)
            return None
        return self.block(kinds[kind], {} if settings is None else settings, (*here, kind))

    def block(
        self, kind: type[Block], written: Any, here: PathInside, wrong: list[ErrorDetails] | None = None
    ) -> Block | None:
        """The settings written `here`; None when they are wrong, and then the errors are added to `wrong`."""
        self.source.problems += booleans_as_numbers(written, kind, self.source, here)
        try:
            return kind.model_validate(written, context=self.context, by_alias=True, by_name=False)
        except ValidationError as error:
            details = error.errors(include_url=False)
            self.source.problems += problems_of(details, kind, self.source, here)
            if wrong is not None:
                wrong += details
            return None

    def check_ids(self, written: list[Any]) -> None:
        """Ids that are taken twice or reserved, at the place where they are written."""
        stages = [(index, *kind_and_id(item)) for index, item in enumerate(written)]
        known = [(index, kind, name) for index, kind, name in stages if kind is not None]
        for position, text in id_problems(stage_ids([(kind, name) for _, kind, name in known])):
            index, kind, _ = known[position]
            self.fault(("stages", index, kind, "id"), text)

    def fault(self, path: tuple[str | int, ...], text: str, *, key: bool = False) -> None:
        self.source.problems.append(Problem(self.source.place(path, key=key), text))

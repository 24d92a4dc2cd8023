"""docs/recipe-reference.md, from the same classes that validate recipes: `python -m llmtune.recipe.reference`."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmtune import stages as stage_registry
from llmtune.files import write_text
from llmtune.recipe.faults import unwrap
from llmtune.recipe.recipe import Recipe
from llmtune.recipe.schema import summary
from llmtune.stages.stage import LaunchedStage, Stage

OPENING = """\
# Recipe reference

This page is generated from the settings classes (`python -m llmtune.recipe.reference docs/recipe-reference.md`); a
test fails when it is stale. `llmtune schema` prints the same as a JSON schema for an editor. To have an editor check
a recipe as you type, write the schema to a file and make this the recipe's first line:

    # yaml-language-server: $schema=recipe.schema.json

A recipe is a YAML file. A path in it is relative to the recipe's folder. Any field can be changed on the command line
as `key.path=value`: `seed=3`, `evaluate.minutes=1`, or by stage id `train.tokens=100_000`,
`corpus.sources.0.path=manual`; there a path is relative to the folder in which you type.
"""
SHARED = ("id", "from_", "gates")  # every stage has these; told once
LAST = LaunchedStage.model_fields.keys() - Stage.model_fields.keys()  # how a stage is started, behind what it does
LIMITS: tuple[tuple[type, str, str], ...] = (
    (annotated_types.Ge, "≥", "ge"),
    (annotated_types.Gt, ">", "gt"),
    (annotated_types.Le, "≤", "le"),
    (annotated_types.Lt, "<", "lt"),
)
TYPES = {
    Any: "value",
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true / false",
    Path: "path",
    type(None): "null",
}


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield OPENING
    yield "## The recipe\n"
    yield from _table(Recipe)
    told: set[type[BaseModel]] = {Recipe, Stage}
    yield from _nested(Recipe, told)
    yield "## Stages\n"
    yield "Each entry of `stages` is one key, the kind of the stage, with its settings below it; `- train` alone takes"
    yield "all defaults. Every stage has these settings besides its own:\n"
    yield from _table(Stage)
    for kind, cls in stage_registry.stage_kinds().items():
        yield f"## `{kind}`\n"
        yield inspect.cleandoc(cls.__doc__ or "") + "\n"
        yield _takes(cls)
        yield from _table(cls, without=SHARED)
        yield from _nested(cls, told)


def _takes(cls: type[Stage]) -> str:
    told = [(need.in_words(emphasis="**"), need.setting) for need in cls.needs]
    needs = " and ".join(f"{words} (`{setting}`)" if setting else words for words, setting in told) or "nothing"
    return f"Takes {needs}; makes a **{cls.makes}**.\n"


def _table(cls: type[BaseModel], without: tuple[str, ...] = ()) -> Iterator[str]:
    """One line a setting: key, type, default, description."""
    fields = [(name, field) for name, field in cls.model_fields.items() if name not in without]
    if not fields:
        return
    fields.sort(key=lambda named: named[0] in LAST)
    yield "| setting | type | default | |"
    yield "| --- | --- | --- | --- |"
    for name, field in fields:
        yield f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {_cell(field.description or '')} |"
    yield ""


def _nested(cls: type[BaseModel], told: set[type[BaseModel]]) -> Iterator[str]:
    """The blocks inside a block, each once, in the order in which they are named."""
    for field in cls.model_fields.values():
        for inner in unwrap(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in told:
                told.add(inner)
                yield f"### {inner.__name__}\n"
                yield summary(inner) + "\n"
                yield from _table(inner)
                yield from _nested(inner, told)


def _type(field: FieldInfo) -> str:
    return _cell(_type_name(field.annotation) + _bounds(field))


def _type_name(annotation: Any) -> str:
    """A type in words: what may be written in the YAML."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return " · ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(member) for member in inner)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return f"block of {_type_name(inner[0])}: {_type_name(inner[1])}"
    if annotation is Stage:
        return "[stage](#stages)"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    """Limits of a number or a length, as pydantic keeps them beside the type."""
    parts = [
        f"{sign} {getattr(limit, attribute)}"
        for kind, sign, attribute in LIMITS
        for limit in field.metadata
        if isinstance(limit, kind)
    ]
    return f" {', '.join(parts)}" if parts else ""


def _default(field: FieldInfo) -> str:
    """The default as it would be written in YAML."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "all defaults"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower()}`".replace("none", "null")
    if isinstance(value, dict | list | tuple) and any(isinstance(item, BaseModel) for item in value):
        return f"{len(value)} blocks"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_text(Path(sys.argv[1]), reference())
    else:
        sys.stdout.write(reference())

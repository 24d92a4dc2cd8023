"""The paths that a recipe names on this disk, wherever they stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from llmtune.corpus.globs import split_glob
from llmtune.models.reference import ModelReference
from llmtune.recipe.recipe import Recipe


def missing_paths(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """(field, named as on the command line, its path) of every file and folder that is not there. A glob can mean
    nothing yet, and what may not be looked at can be there: neither is told."""
    for name, path in _paths(recipe, ""):
        try:
            top, pattern = split_glob(path)
            there = top.exists()
        except OSError:
            continue
        if not there and pattern is None:
            yield name, path


def _paths(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    """Every path in a setting's value: `RecipePath` makes a Path of what is written, and nothing else does."""
    if isinstance(value, Path):
        yield name, value
    elif isinstance(value, ModelReference):
        if value.path is not None:
            yield name, value.path
    else:
        for key, inner in _inside(value):
            yield from _paths(inner, f"{name}.{key}" if name else str(key))


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    """(key, value) of what is in a block or a list; a stage's key is its id."""
    if isinstance(value, Recipe):
        settings = {key: getattr(value, key) for key in type(value).model_fields if key != "stages"}
        yield from (settings | {stage.id: stage for stage in value.stages}).items()
    elif isinstance(value, BaseModel):
        yield from ((field.alias or key, getattr(value, key)) for key, field in type(value).model_fields.items())
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)

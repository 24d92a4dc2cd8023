"""What every block of a recipe is built on: strict pydantic models, and paths that are relative to the recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, WrapValidator

from llmtune.words import printable


class Typed(str):
    """Text typed on the command line: a path is relative to where it was typed, not to the recipe."""


def folder_of(value: Any, info: ValidationInfo) -> Path | None:
    """The folder that a path written as `value` is relative to; None when no recipe is being loaded."""
    folder = (info.context or {}).get("folder")
    return Path.cwd() if folder is not None and isinstance(value, Typed) else folder


def _absolute(value: Any, check: Callable[[Any], Path], info: ValidationInfo) -> Path:
    path = check(value)
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"no home folder of {path.parts[0]} is known here; write the whole path") from None
    folder = folder_of(value, info)
    placed = (folder / path).resolve() if folder is not None and not path.is_absolute() else path
    if printable(str(placed)) != str(placed):  # records hold it as text
        raise ValueError(f"the name of this place is not UTF-8: {printable(str(placed))}")
    return placed


# A path in a recipe: relative to the recipe's own folder, absolute once the recipe is loaded.
RecipePath = Annotated[Path, WrapValidator(_absolute)]


def _placed(value: Any, check: Callable[[Any], Path | str], info: ValidationInfo) -> Path | str:
    if isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        return check(str(value))
    return _absolute(value, lambda written: Path(check(written)), info)


# A path in a recipe, or a URL, which stays as it is written (a Path would make `s3:/` of `s3://`).
RecipePlace = Annotated[str | Path, WrapValidator(_placed)]


class Settings(BaseModel):
    """Base of every block of a recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, validate_default=True)

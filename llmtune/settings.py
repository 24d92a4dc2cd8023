"""What every block of a recipe is built on: strict pydantic models, and paths that are relative to the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo


def _relative_to_recipe(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError(f"no home folder of {path.parts[0]} is known here; write the whole path") from None
    return (Path(folder) / path).resolve() if folder is not None and not path.is_absolute() else path


# A path in a recipe: relative to the recipe's own folder, absolute once the recipe is loaded.
RecipePath = Annotated[Path, AfterValidator(_relative_to_recipe)]


class Settings(BaseModel):
    """Base of every block of a recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, validate_default=True)

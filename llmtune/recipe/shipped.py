"""The recipes that come along, in a source checkout and in an installed package alike."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import llmtune
from llmtune.errors import LlmtuneError
from llmtune.recipe.faults import nearest
from llmtune.recipe.load import RECIPE_FILE

INSTALLED = Path("share/llmtune")  # below the environment's data folder; pyproject's data-files put it there


@dataclass(frozen=True)
class Shipped:
    """name: to call it by; path: its file, or the folder it has for itself; about: its first comment line."""

    name: str
    path: Path
    about: str


def shipped_recipes() -> list[Shipped]:
    """All of them by name; an empty list when the folder was not installed."""
    folder = recipes_folder()
    return sorted(_found(folder), key=lambda recipe: recipe.name) if folder else []


def recipes_folder() -> Path | None:
    """`recipes/` of the checkout this package runs from, else the one that was installed with it."""
    checkout = Path(llmtune.__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "recipes").is_dir():
        return checkout / "recipes"
    installed = Path(sysconfig.get_path("data")) / INSTALLED / "recipes"
    return installed if installed.is_dir() else None


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a shipped recipe to start from; returns the new file or folder.

    A one-file recipe goes to `target`, or into it when that is a folder or ends in `/`. A recipe with a folder becomes
    the folder `target`. Raises LlmtuneError for an unknown name and for anything that stands there already."""
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in recipes:
        raise LlmtuneError(f"no recipe '{name}' comes along{nearest(name, recipes)}")
    source = recipes[name].path
    into = target / source.name if source.is_file() and (target.is_dir() or not target.suffix) else target
    if into.exists():
        raise LlmtuneError("stands there already", where=str(into), fix="give another name, or move it away")
    into.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, into)
    else:
        shutil.copyfile(source, into)
    return into


def _found(folder: Path) -> Iterator[Shipped]:
    for path in folder.iterdir():
        if path.suffix == ".yaml":
            yield Shipped(path.stem, path, _about(path))
        elif (path / RECIPE_FILE).is_file():
            yield Shipped(path.name, path, _about(path / RECIPE_FILE))


def _about(file: Path) -> str:
    """The first comment line that is not an instruction to an editor."""
    comments = (line.lstrip("# ").strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((line for line in comments if line and "yaml-language-server" not in line), "")

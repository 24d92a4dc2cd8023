"""The recipes that come along, in a source checkout and in an installed package alike."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmtune.errors import LlmtuneError
from llmtune.files import write_text
from llmtune.recipe.faults import nearest
from llmtune.recipe.load import RECIPE_FILE
from llmtune.recipe.recipe import NAME_CHARACTERS, NAME_LENGTH
from llmtune.recipe.source import parse
from llmtune.shipped import shipped_folder

RECIPES = "recipes"
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Shipped:
    """name: to call it by; path: its file, or the folder it has for itself; about: its first comment line."""

    name: str
    path: Path
    about: str


def shipped_recipes() -> list[Shipped]:
    """All of them by name; an empty list when the folder was not installed."""
    folder = shipped_folder(RECIPES)
    return sorted(_found(folder), key=lambda recipe: recipe.name) if folder else []


def copy_recipe(name: str, target: Path) -> Shipped:
    """Copy a shipped recipe to start from; returns the copy. It never keeps the original's name, so that running it
    leaves the run of the original alone: it is named after the file or folder that it becomes and, in a folder that it
    shares with others, after both.

    A target that ends in .yaml or .yml becomes that file; of a recipe with a folder, the recipe alone. Any other target
    is a folder: a one-file recipe goes into it; a recipe with a folder becomes it, or goes into it when it is there.
    Raises LlmtuneError for an unknown name, for anything that stands there already, and where nothing can be written.
    """
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in recipes:
        raise LlmtuneError(f"no recipe '{name}' comes along{nearest(name, recipes)}")
    try:
        return _copied(recipes[name], target)
    except OSError as error:
        raise LlmtuneError(f"cannot be written: {error.strerror or error}", where=str(target)) from error


def _copied(recipe: Shipped, target: Path) -> Shipped:
    source = recipe.path
    inside = target.is_dir() or not (source.is_dir() or target.suffix in ENDINGS)
    into = target / source.name if inside else target
    _refuse_to_overwrite(into)
    as_file = into.suffix in ENDINGS
    name = _valid_name(f"{target.name or 'my'}-{recipe.name}" if inside else into.stem if as_file else into.name)
    if name in ("", recipe.name):
        name = f"my-{recipe.name}"
    text = _renamed((source / RECIPE_FILE if source.is_dir() else source).read_text("utf-8"), name)
    if not as_file:
        shutil.copytree(source, into)
    write_text(into if as_file else into / RECIPE_FILE, text)
    return Shipped(name, into, recipe.about)


def _refuse_to_overwrite(into: Path) -> None:
    """Raise LlmtuneError when `into` is there, or when a file stands where a folder above it would be."""
    place = next(place for place in (into, *into.parents) if os.path.lexists(place))
    if place == into or not place.is_dir():
        fix = "give another name, or move it away"
        if place != into:
            fix += "; the name of a recipe's file ends in .yaml"
        raise LlmtuneError("stands there already", where=str(place), fix=fix)


def _valid_name(wanted: str) -> str:
    """`wanted` as a recipe's name may be; empty when nothing of it remains."""
    return re.sub(rf"[^{NAME_CHARACTERS}]+", "-", wanted).lstrip("-._")[:NAME_LENGTH]


def _renamed(text: str, name: str) -> str:
    """A shipped recipe's text under another name; all else, comments too, stays as it is written."""
    as_text = parse(f"name: {name}".encode(), name).data == {"name": name}  # 2024 and true need quotes
    line = f"name: {name}" if as_text else f'name: "{name}"'
    return re.sub(r"^name:[ \t]*\S+", line, text, count=1, flags=re.MULTILINE)


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

"""The recipes that come along, in a source checkout and in an installed package alike."""

from __future__ import annotations

import re
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import llmtune
from llmtune.errors import LlmtuneError
from llmtune.files import write_text
from llmtune.recipe.faults import nearest
from llmtune.recipe.load import RECIPE_FILE
from llmtune.recipe.source import parse

INSTALLED = Path("share/llmtune")  # below the environment's data folder; pyproject's data-files put it there
ENDINGS = (".yaml", ".yml")
MOST_LETTERS = 100  # of a recipe's name


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
    """Copy a shipped recipe to start from; returns the new file or folder. The copy is named after it, so that running
    it leaves the run of the original alone.

    A target that ends in .yaml or .yml becomes that file; of a recipe with a folder, the recipe alone. Any other target
    is a folder: a one-file recipe goes into it; a recipe with a folder becomes it, or goes into it when it is there.
    Raises LlmtuneError for an unknown name and for anything that stands there already."""
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in recipes:
        raise LlmtuneError(f"no recipe '{name}' comes along{nearest(name, recipes)}")
    source = recipes[name].path
    into = _place(source, target)
    if into.exists():
        raise LlmtuneError("stands there already", where=str(into), fix="give another name, or move it away")
    as_file = into.suffix in ENDINGS
    new = _valid_name(into.stem if as_file else into.resolve().name, instead=f"my-{name}")
    text = _renamed((source / RECIPE_FILE if source.is_dir() else source).read_text("utf-8"), new)
    if not as_file:
        shutil.copytree(source, into)
    write_text(into if as_file else into / RECIPE_FILE, text)
    return into


def _place(source: Path, target: Path) -> Path:
    if target.is_dir():
        return target / source.name
    return target if source.is_dir() or target.suffix in ENDINGS else target / source.name


def _valid_name(wanted: str, instead: str) -> str:
    """`wanted` as a recipe's name may be; `instead` when nothing of it remains."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).lstrip("-._")[:MOST_LETTERS] or instead


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

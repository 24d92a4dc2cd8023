from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmtune import stages
from llmtune.errors import RecipeError
from llmtune.recipe import Recipe, load_recipe
from tests.recipe.toys import KINDS

GOOD = """\
# A small recipe
name: toy
model: smollm2-135m-instruct-q4
seed: 7
stages:
  - corpus:
      sources: [{path: manual/, format: html}]
  - train:
      adapter: {type: lora, rank: 8}
      tokens: 250_000
      learning_rate: 3e-4
  - quantize
  - export:
  - export: {format: gguf, from: train}
evaluate: {}
"""


@pytest.fixture(autouse=True)
def toy_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "stage_kinds", lambda: KINDS)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe to recipe.yaml; returns its path."""

    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


@pytest.fixture
def load(write: Callable[[str], Path]) -> Callable[..., Recipe]:
    """Load a recipe from its text."""
    return lambda text, overrides=(): load_recipe(write(text), overrides)


@pytest.fixture
def problems(write: Callable[[str], Path]) -> Callable[..., list[str]]:
    """The problems of a recipe, one a line, without the folder's name."""

    def find(text: str, overrides: Sequence[str] = ()) -> list[str]:
        path = write(text)
        with pytest.raises(RecipeError) as caught:
            load_recipe(path, overrides)
        lines = caught.value.what.splitlines()
        told = [line.replace(f"{path.parent}/", "") for line in lines]
        return told[1:] if len(told) > 1 else told

    return find

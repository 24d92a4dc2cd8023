"""The best trial as a recipe: the user's text with the values in place, and the trial's recipe to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.recipe import load_recipe
from llmtune.recipe.load import read_written
from llmtune.search.best import best_text
from tests.recipe.conftest import toy_stages  # noqa: F401

TEXT = """\
# What this is for
name: toy
model: models/base   # ours
seed: 7
stages:
  - corpus:
      sources: [{path: manual/, format: html}, {path: "/absolute"}]
      near_duplicates: 0.80   # as they come
  - train:
      tokens: 250_000
      learning_rate: 3e-4  # a guess
  - quantize
  - export: {from: quantize}
search:
  space:
    train.learning_rate: {low: 1e-6, high: 1e-3, log: true}
    train.adapter.rank: {choices: [4, 8]}
    quantize.bits: {choices: [3, 4]}
  minimize: export.loss
# the end
"""
VALUES = {"train.learning_rate": 1.2345678901234567e-05, "train.adapter.rank": 4, "quantize.bits": 3}


def write(folder: Path, text: str) -> Path:
    (folder / "models/base").mkdir(parents=True)
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def saved(folder: Path, text: str) -> Path:
    path = folder / "elsewhere/best.yaml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_it_is_the_recipe_with_the_values_given_on_the_command_line(tmp_path: Path) -> None:
    recipe = write(tmp_path, TEXT)
    best = saved(tmp_path, best_text(read_written(recipe, ["train.tokens=99"]), VALUES, "# the best"))
    found = load_recipe(best)
    by_hand = ["train.tokens=99", *(f"{key}={value!r}" for key, value in VALUES.items())]
    assert found == load_recipe(recipe, by_hand).model_copy(update={"search": None})
    assert found.model.name == str(tmp_path / "models/base")
    assert found.stages[0].sources[0].path == tmp_path / "manual"  # type: ignore[attr-defined]
    assert load_recipe(best, ["seed=8"]).seed == 8, "it is a recipe like any other"


def test_what_was_typed_is_relative_to_where_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    written = read_written(write(tmp_path, TEXT), ["corpus.sources.0.path=typed", "corpus.sources.1={path: block}"])
    best = saved(tmp_path, best_text(written, VALUES, "# the best"))
    monkeypatch.chdir(tmp_path)
    sources = load_recipe(best).stages[0].sources  # type: ignore[attr-defined]
    assert [source.path for source in sources] == [tmp_path / "here/typed", tmp_path / "here/block"]


def test_it_keeps_the_users_words(tmp_path: Path) -> None:
    text = best_text(read_written(write(tmp_path, TEXT)), VALUES, "# the best")
    assert text.startswith("# the best\n# What this is for\nname: toy\n")
    for kept in (
        "# ours",
        "near_duplicates: 0.80   # as they come",
        "250_000",
        "# a guess",
        "  - export: {from: quantize}",
    ):
        assert kept in text
    assert "search" not in text
    assert f"learning_rate: {VALUES['train.learning_rate']!r}" in text


def test_a_block_that_an_alias_repeats_is_changed_in_one_place(tmp_path: Path) -> None:
    text = TEXT.replace("- train:\n", "- train:\n      adapter: &small {rank: 2}\n").replace(
        "  - quantize\n", "  - quantize\n  - train: {id: again, adapter: *small}\n"
    )
    recipe = write(tmp_path, text.replace("from: quantize", "from: again"))
    best = saved(tmp_path, best_text(read_written(recipe), VALUES, "# the best"))
    found = {stage.id: stage for stage in load_recipe(best).stages}
    assert found["train"].adapter.rank == 4  # type: ignore[attr-defined]
    assert found["again"].adapter.rank == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [0.1, 1e-5, 5e20, 3.0, 7e-3])
def test_numbers_are_read_back_as_they_were(tmp_path: Path, value: float) -> None:
    recipe = write(tmp_path, TEXT)
    best = saved(tmp_path, best_text(read_written(recipe), VALUES | {"train.learning_rate": value}, "# the best"))
    assert load_recipe(best).stages[1].learning_rate == value  # type: ignore[attr-defined]

"""The JSON schema agrees with the loader, judged by an independent implementation of JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from llmtune.errors import RecipeError
from llmtune.recipe import Recipe, json_schema, load_recipe
from tests.recipe.conftest import GOOD
from tests.recipe.toys import KINDS


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_it_is_a_schema_and_describes_every_field() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    properties = schema["properties"]
    assert set(properties) == set(Recipe.model_fields)
    assert all(block.get("description") for block in properties.values())
    for cls in KINDS.values():
        block = schema["$defs"][cls.__name__]
        assert set(block["properties"]) == {field.alias or name for name, field in cls.model_fields.items()}


def test_the_empty_stage_and_the_bare_word() -> None:
    validator = Draft202012Validator(json_schema())
    assert validator.is_valid(read(GOOD))
    assert not validator.is_valid(read(GOOD.replace("- quantize", "- corpus")))  # it needs sources


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 7", "seed: 7"),
        ("tokens", "tokns"),
        ("250_000", "many"),
        ("250_000", "-1"),
        ("seed: 7", "seed: -1"),
        ("rank: 8", "rank: []"),
        ("html", "htlm"),
        ("quantize", "quantise"),
        ("path: manual/, ", ""),
        ("evaluate: {}", "evaluate: {minuts: 3}"),
        ("evaluate: {}", "evaluate: null"),
        ("model: smollm2-135m-instruct-q4", "model: {name: gpt2, revision: main}"),
        ("model: smollm2-135m-instruct-q4", "model: {nam: gpt2}"),
        ("model: smollm2-135m-instruct-q4", "model: 3"),
        ("  - export:\n", "  - export: {}\n    train: {}\n"),
        ("from: train", "from: [train]"),
        ("name: toy", "name: ''"),
    ],
)
def test_an_editor_and_the_loader_say_the_same(write: Callable[[str], Path], old: str, new: str) -> None:
    text = GOOD.replace(old, new, 1)
    path = write(text)
    try:
        load_recipe(path)
        loads = True
    except RecipeError:
        loads = False
    assert Draft202012Validator(json_schema()).is_valid(read(text)) == loads


def test_digits_in_groups_are_integers_to_an_editor_too() -> None:
    """`250_000` is a string to YAML 1.2, which editors read."""
    validator = Draft202012Validator(json_schema())
    recipe = read(GOOD)
    recipe["stages"][1]["train"]["tokens"] = "250_000"
    assert validator.is_valid(recipe)
    recipe["stages"][1]["train"]["tokens"] = "many"
    assert not validator.is_valid(recipe)

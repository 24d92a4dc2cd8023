"""The resolved recipe: everything written out, and the same recipe again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from llmtune.recipe import Recipe, ReportSettings, dump_resolved, load_recipe
from llmtune.recipe.source import parse
from tests.recipe.conftest import GOOD
from tests.recipe.toys import KINDS, ToyExport, ToyTrain


def test_it_loads_again_to_the_same_recipe_from_anywhere(load: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = load(GOOD, ["report.prompts=['a: b', \"don't\", '>= 1', 'no', '3', 'ü\\n']"])
    elsewhere = tmp_path / "runs" / "toy" / "recipe.yaml"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(dump_resolved(recipe), encoding="utf-8")
    again = load_recipe(elsewhere)
    assert again == recipe
    assert dump_resolved(again) == dump_resolved(recipe)


def test_every_field_of_every_stage_is_written(load: Callable[..., Recipe]) -> None:
    data = YAML(typ="safe").load(dump_resolved(load(GOOD)))
    assert list(data) == [*Recipe.model_fields]
    for entry in data["stages"]:
        ((kind, block),) = entry.items()
        assert set(block) == {field.alias or name for name, field in KINDS[kind].model_fields.items()}
    assert data["stages"][1]["train"]["adapter"]["targets"] == "all"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_text_survives(tmp_path: Path, prompts: list[str], seed: int) -> None:
    stages = [ToyExport(), ToyExport(from_=["base"], id="second")]
    recipe = Recipe(name="a", model="gpt2", seed=seed, stages=stages, report=ReportSettings(prompts=prompts))
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_resolved(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


@settings(deadline=None)
@given(rate=st.floats(1e-12, 1e3))
def test_any_number_survives(rate: float) -> None:
    recipe = Recipe(name="a", model="b", stages=[ToyTrain(learning_rate=rate)])
    assert parse(dump_resolved(recipe).encode(), "x").data["stages"][0]["train"]["learning_rate"] == rate

"""`key.path=value` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.recipe import Recipe
from tests.recipe.conftest import GOOD

Load = Callable[..., Recipe]
Problems = Callable[..., list[str]]


def test_any_field_by_stage_id_or_name(load: Load) -> None:
    overrides = [
        "seed=3",
        "train.tokens=1_000",
        "train.learning_rate=1e-5",
        "train.adapter.targets=[q_proj, v_proj]",
        "quantize.bits=8",
        "export-2.format=hf",
        "corpus.near_duplicates=null",
        "evaluate={}",
        "model.trust_remote_code=true",
        "report.samples=false",
    ]
    recipe = load(GOOD, overrides)
    corpus, train, quantize, _, second = recipe.stages
    assert (recipe.seed, train.tokens, train.learning_rate, quantize.bits) == (3, 1000, 1e-5, 8)
    assert (train.adapter.targets, train.adapter.rank) == (["q_proj", "v_proj"], 8)
    assert (second.format, second.from_) == ("hf", "train")
    assert corpus.near_duplicates is None
    assert (recipe.model.name, recipe.model.trust_remote_code) == ("smollm2-135m-instruct-q4", True)
    assert recipe.report.samples is False


def test_a_path_is_relative_to_where_it_is_typed(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert load(GOOD, ["corpus.sources.0.path=other"]).stages[0].sources[0].path == here / "other"
    assert load(GOOD, ["corpus.sources=[{path: a}, {path: /b}]"]).stages[0].sources[0].path == here / "a"
    assert load(GOOD, ["model=models/mine"]).model.name == str(here / "models" / "mine")
    assert load(GOOD, ["model.name=./gone"]).model.name == str(here / "gone")
    assert load(GOOD, ["seed=1"]).stages[0].sources[0].path == tmp_path / "manual"


def test_one_that_is_not_utf_8(problems: Problems) -> None:
    (told,) = problems(GOOD, ["corpus.sources.0.path=caf\udce9"])
    assert told == "command line 'corpus.sources.0.path=caf\\udce9': is not UTF-8"


def test_a_path_typed_in_a_folder_that_is_not_utf_8(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "caf\udce9").mkdir()
    monkeypatch.chdir(tmp_path / "caf\udce9")
    (told,) = problems(GOOD, ["corpus.sources.0.path=manual"])
    assert "the name of this place is not UTF-8: " in told
    assert told.endswith("caf\\udce9/manual")


def test_a_stage_with_an_id_of_its_own_is_found_by_it(load: Load) -> None:
    text = GOOD.replace("tokens: 250_000", "id: tune")
    assert load(text.replace("from: train", "from: tune"), ["tune.tokens=9"]).stages[1].tokens == 9


def test_a_whole_model_and_a_block_that_was_not_there(load: Load) -> None:
    text = GOOD.replace("      adapter: {type: lora, rank: 8}\n", "").replace("evaluate: {}\n", "")
    recipe = load(text, ["model=gpt2", "train.adapter.rank=4", "evaluate={}"])
    assert (recipe.model.name, recipe.stages[1].adapter.rank) == ("gpt2", 4)
    assert recipe.evaluate is not None


def test_the_last_of_two_overrides_counts(load: Load) -> None:
    assert load(GOOD, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.tokns=3", "unknown key 'tokns' in train; did you mean 'tokens'?"),
        ("train.adapter.rnk=3", "unknown key 'rnk' in train.adapter; did you mean 'rank'?"),
        ("trian.tokens=3", "no stage or setting 'trian'; did you mean 'train'?"),
        ("sead=3", "no stage or setting 'sead'; did you mean 'seed'?"),
        ("report.smaples=3", "unknown key 'smaples' in report; did you mean 'samples'?"),
        ("train.tokens=many", "train.tokens: found 'many', expected a whole number"),
        ("train.tokens=", "train.tokens: found nothing, expected a whole number"),
        ("train.compile=7", "train.compile: found 7, expected true or false"),
        ("train.adapter.type=qlora", None),
        ("quantize.bits=5", "quantize.bits: found 5, expected 3, 4 or 8"),
        ("train", "expected key.path=value, for example seed=3 or train.tokens=100_000"),
        ("=3", "expected key.path=value, for example seed=3 or train.tokens=100_000"),
        ("train=3", "'train' is a stage; name one of its settings: train.<setting>=<value>"),
        ("corpus.sources.4.path=x", "'corpus.sources' has 1 items; expected a position from 0 to 0"),
        ("corpus.sources.path=x", "'corpus.sources' is a list; expected a position from 0 to 0, found 'path'"),
        ("name.first=x", "'name' is 'toy', which has no settings inside"),
        ("export-2.from=trian", "no stage 'trian' before this one; did you mean 'train'?"),
    ],
)
def test_a_wrong_one_is_told_as_the_command_line(
    load: Load, problems: Problems, override: str, expected: str | None
) -> None:
    if expected is None:
        assert load(GOOD, [override])
    else:
        assert problems(GOOD, [override]) == [f"command line '{override}': {expected}"]

# ruff: noqa: E501 the messages are told in full
"""Recipes that load, and everything that can be wrong with one: what is said, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.errors import LlmtuneError, RecipeError
from llmtune.recipe import Recipe, load_recipe
from llmtune.run.display import Display
from llmtune.run.runner import Run
from tests.recipe.conftest import GOOD

Load = Callable[..., Recipe]
Problems = Callable[..., list[str]]


def test_a_recipe_loads_with_types_ids_and_paths(load: Load, tmp_path: Path) -> None:
    recipe = load(GOOD)
    corpus, train, quantize, first, second = recipe.stages
    assert [stage.id for stage in recipe.stages] == ["corpus", "train", "quantize", "export", "export-2"]
    assert corpus.sources[0].path == tmp_path / "manual"
    assert (train.tokens, train.learning_rate, train.adapter.rank) == (250_000, 3e-4, 8)
    assert (quantize.bits, first.format, second.from_) == (4, "hf", "train")
    assert recipe.model.name == "smollm2-135m-instruct-q4"
    assert recipe.evaluate is not None


def test_a_folder_stands_for_its_recipe_yaml(write: Callable[[str], Path]) -> None:
    assert load_recipe(write(GOOD).parent) == load_recipe(write(GOOD))


@pytest.mark.parametrize(
    ("written", "value"), [("3e-4", 3e-4), ("1E-3", 1e-3), (".5", 0.5), ("+2.5e+1", 25.0), ("1_0.5", 10.5), ("2", 2.0)]
)
def test_every_way_of_writing_a_float(load: Load, written: str, value: float) -> None:
    assert load(GOOD.replace("3e-4", written)).stages[1].learning_rate == value


@pytest.mark.parametrize(("written", "value"), [("1e6", 1_000_000), ("0x10", 16), ("0o17", 15), ("012", 12)])
def test_every_way_of_writing_an_integer(load: Load, written: str, value: int) -> None:
    assert load(GOOD.replace("250_000", written)).stages[1].tokens == value


def test_words_that_older_yaml_took_for_booleans_stay_words(load: Load) -> None:
    assert load(GOOD.replace("name: toy", "name: no")).name == "no"
    assert load(GOOD.replace("name: toy", "name: 2026-01-01")).name == "2026-01-01"


def test_an_anchor_and_its_alias(load: Load) -> None:
    text = GOOD.replace("adapter: {type: lora, rank: 8}", "adapter: &a {rank: 3}") + "report: {prompts: [&p hi, *p]}\n"
    text = text.replace("  - quantize\n", "  - train: {adapter: *a}\n")
    recipe = load(text)
    assert recipe.stages[1].adapter.rank == recipe.stages[2].adapter.rank == 3
    assert recipe.report.prompts == ["hi", "hi"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tokens", "tokns", "recipe.yaml:10:7: unknown key 'tokns' in train; did you mean 'tokens'?"),
        ("seed", "sede", "recipe.yaml:4:1: unknown key 'sede'; did you mean 'seed'?"),
        ("format: html", "formt: html", "recipe.yaml:7:33: unknown key 'formt' in corpus.sources.0; did you mean 'format'?"),
        ("rank: 8", "rnk: 8", "recipe.yaml:9:29: unknown key 'rnk' in train.adapter; did you mean 'rank'?"),
        ("250_000", "many", "recipe.yaml:10:15: train.tokens: found 'many', expected a whole number"),
        ("250_000", "2.5", "recipe.yaml:10:15: train.tokens: found 2.5, expected a whole number"),
        ("250_000", "true", "recipe.yaml:10:15: train.tokens: found true, expected a number"),
        ("3e-4", "yes", "recipe.yaml:11:22: train.learning_rate: found 'yes', expected a number"),
        ("250_000", "0", "recipe.yaml:10:15: train.tokens: found 0, expected a number above 0"),
        ("rank: 8", "rank: []", "recipe.yaml:9:35: train.adapter.rank: found a list of 0, expected a whole number"),
        ("html", "htlm", "recipe.yaml:7:41: corpus.sources.0.format: found 'htlm', expected 'auto', 'html' or 'markdown'; did you mean 'html'?"),
        ("rank: 8", "targets: 3", "recipe.yaml:9:38: train.adapter.targets: found 3, expected a list or 'all'"),
        ("tokens", "from_", "recipe.yaml:10:7: unknown key 'from_' in train; did you mean 'from'?"),
        ("quantize", "quantise", "recipe.yaml:12:5: unknown stage 'quantise'; did you mean 'quantize'?"),
        ("quantize", "fly", "recipe.yaml:12:5: unknown stage 'fly'; expected one of: corpus, train, quantize, export, merge, distill"),
        ("name: toy", "name: 5", "recipe.yaml:2:7: name: found 5, expected text (put it in quotes)"),
        ("name: toy", "name: a/b", "recipe.yaml:2:7: name: found 'a/b', expected text of the form ^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("seed: 7", "seed: -7", "recipe.yaml:4:7: seed: found -7, expected a number of at least 0"),
        ("  - quantize\n", "  - quantize: 4\n", "recipe.yaml:12:15: quantize: found 4, expected a block of 'key: value' lines"),
        ("evaluate: {}", "evaluate: [1]", "recipe.yaml:15:11: evaluate: found a list of 1, expected a block of 'key: value' lines"),
        ("path: manual/, ", "", "recipe.yaml:7:17: corpus.sources.0: 'path' is missing (Where the documents are)"),
        ("[{path: manual/, format: html}]", "[]", "recipe.yaml:7:16: corpus.sources: found a list of 0, expected at least 1 of them"),
        ("from: train", "from: trian", "recipe.yaml:14:34: no stage 'trian' before this one; did you mean 'train'?"),
        ("from: train", "from: corpus", "recipe.yaml:14:34: 'corpus' (corpus) makes a corpus; 'export-2' takes a checkpoint"),
        ("from: train", "from: export-2", "recipe.yaml:14:34: 'export-2' is not made yet at this stage; expected an earlier stage, one of: base, corpus, train, quantize, export"),
        ("from: train", "id: train", "recipe.yaml:14:32: id 'train' is taken by stage 2; give one another id"),
        ("from: train", "id: base", "recipe.yaml:14:32: id 'base' has a meaning of its own in a recipe; choose another"),
        ("seed: 7", "seed: 7\nseed: 8", "recipe.yaml:5:1: key 'seed' is here twice (first in line 4)"),
        ("manual/", "!!python/name:os.system x", "recipe.yaml:7:24: tag '!!python/name:os.system'; a recipe holds plain values only, remove the tag"),
        ("seed: 7", "seed: .inf", "recipe.yaml:4:7: found .inf; expected a finite number"),
    ],
)  # fmt: skip
def test_one_problem_is_told_with_its_place(problems: Problems, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in problems(GOOD.replace(old, new, 1))


def test_an_impossible_combination_is_at_its_block(problems: Problems) -> None:
    text = GOOD.replace("type: lora", "type: qlora").replace("tokens: 250_000", "precision: fp32")
    assert problems(text) == ["recipe.yaml:8:5: train: qlora trains in bf16; precision fp32 cannot go with it"]


def test_a_stage_without_the_corpus_it_needs(problems: Problems) -> None:
    text = "name: a\nmodel: b\nstages:\n  - quantize\n  - train: {tokens: 5}\n"
    expected = "recipe.yaml:5:5: stage 'train' needs a corpus, and no stage before it makes one"
    assert problems(text) == [expected]


def test_a_need_that_only_the_wrong_makers_meet(problems: Problems) -> None:
    (told,) = problems(GOOD.replace("- export: {format: gguf, from: train}", "- train: {from: quantize}"))
    assert told == (
        "recipe.yaml:14:19: 'quantize' (quantize) makes a checkpoint; "
        "'train-2' takes a checkpoint not made by quantize and a corpus"
    )


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = (
        GOOD.replace("name: toy", "nam: toy")
        .replace("html", "htlm")
        .replace("250_000", "many")
        .replace("quantize", "quantise")
        .replace("evaluate: {}", "evaluate: {minuts: 1}")
        .replace("rank: 8", "rank: true")
    )
    told = problems(text, ["train.precision=fp23"])
    lines = [int(line.split(":")[1]) for line in told[:-1]]
    assert lines == sorted(lines)
    for part in ("'name' is missing", "'nam'", "'htlm'", "'many'", "'quantise'", "'minuts'", "found true", "'fp23'"):
        assert any(part in line for line in told), part
    assert len(told) == 8


def test_what_is_wrong_between_stages_is_told_beside_what_is_wrong_in_them(problems: Problems) -> None:
    text = (
        GOOD.replace("quantize\n", "quantize: {bit: 3}\n")
        .replace("- export:\n", "- export: {format: ggfu}\n")
        .replace("from: train", "from: trian")
        + "gates: {bites: '<= 1 MB', bytes: '<= 0.5 of trian'}\n"
    )
    told = [line.removeprefix("recipe.yaml:") for line in problems(text)]
    assert [line.split(":")[0] for line in told] == ["12", "13", "14", "16", "16"]
    for line, part in zip(told, ("'bit'", "'ggfu'", "no stage 'trian'", "'bites'", "no model 'trian'"), strict=True):
        assert part in line


def test_a_wrong_stage_is_not_the_cause_of_other_faults(problems: Problems) -> None:
    """It still makes what stages of its kind make; where its kind is not known, nobody can tell what the others lack."""
    assert len(problems(GOOD.replace("format: html", "format: htlm"))) == 1
    assert len(problems(GOOD.replace("- corpus", "- corpsu"))) == 1
    assert len(problems(GOOD.replace("format: gguf, from: train", "format: gguf, from: export, id: train"))) == 1
    assert len(problems(GOOD.replace("evaluate", "evalaute") + "gates: {bytes: '<= 1 MB'}\n")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "recipe.yaml: is empty; expected a recipe (name, model, stages)"),
        ("# only a comment\n", "recipe.yaml: is empty; expected a recipe (name, model, stages)"),
        ("- a\n- b\n", "recipe.yaml:1:1: found a list; expected a recipe: 'key: value' lines (name, model, stages)"),
        ("hello there", "recipe.yaml:1:1: found 'hello there'; expected a recipe: 'key: value' lines (name, model, stages)"),
        ("a: [1,\nb: 2", "recipe.yaml:2:5: not YAML: expected ',' or ']', but got '<stream end>' (a bracket is not closed)"),
        ("a: 1\n\tb: 2", "recipe.yaml:2:1: not YAML: found character '\\t' that cannot start any token (indent with spaces, not tabs; a value that starts with @, ` or % needs quotes)"),
        ("a: b: c", "recipe.yaml:1:5: not YAML: mapping values are not allowed here (a value that holds ': ' needs quotes; or a line is indented wrongly)"),
        ("gates:\n  x: >= 0.9\n", "recipe.yaml:2:7: not YAML: expected chomping or indentation indicators, but found '=' (a value that starts with '>' or '|' needs quotes)"),
        ("name: a\nmodel: b\nstages: []\n", "recipe.yaml:3:9: stages: found a list of 0, expected at least 1 of them"),
        ("name: a\nmodel: b\nstages:\n", "recipe.yaml:3:1: stages: found nothing, expected a list"),
        ("name: a\nmodel: b\nstages: {train: {}}\n", "recipe.yaml:3:9: stages: found a block (train), expected a list"),
        ("name: a\nmodel: b\nstages:\n  - {train: {}, export: {}}\n", "recipe.yaml:4:5: stage 1: found keys 'train', 'export', expected one key, the kind of the stage (`- train: …`)"),
        ("name: a\nmodel: b\nstages:\n  -\n", "recipe.yaml:4:4: stage 1: found nothing, expected one key, the kind of the stage (`- train: …`)"),
        ("name: a\nmodel: [b]\nstages: [quantize]\n", "recipe.yaml:2:8: model: found a list of 1, expected a block of 'key: value' lines"),
    ],
)  # fmt: skip
def test_files_that_are_no_recipe(problems: Problems, text: str, expected: str) -> None:
    assert expected in problems(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"name: a\nmodel: \xff\xfe\n", ":2:8: byte 0xff is not UTF-8; expected a text file in UTF-8"),
        (b"name: a\x00b", "not YAML: unacceptable character #x0000"),
        (b"x" * 2_000_000, "is 2,000,000 bytes; expected a YAML recipe, a page of text"),
        (b"[" * 20_000, "nested too deeply"),
        (b"a: &x [*x]", "it would have no end"),
        (b"a: &a " + b"[" * 70 + b"]" * 70, "nested too deeply"),
    ],
)
def test_bytes_that_are_no_recipe(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError, match=r".") as caught:
        load_recipe(path)
    assert expected in str(caught.value)


def test_an_alias_bomb_is_refused_before_it_grows(problems: Problems) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (told,) = problems("\n".join(lines))
    assert "more than 50,000 values once aliases are expanded" in told


def test_a_missing_recipe_names_its_neighbour(write: Callable[[str], Path]) -> None:
    write(GOOD)
    with pytest.raises(RecipeError, match=r"did you mean 'recipe\.yaml'"):
        load_recipe(write(GOOD).with_name("recpie.yaml"))


def test_a_folder_without_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"other\.yaml"):
        load_recipe(tmp_path)


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    """The recipe's, and the one that a run would stand in."""
    odd, usual = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe8le")), tmp_path / "modèle"
    for folder in (odd, usual):
        folder.mkdir()
        (folder / "recipe.yaml").write_text(GOOD)
    recipe = load_recipe(usual)
    with pytest.raises(LlmtuneError, match=r"mod\\udce8le.*not UTF-8"):
        load_recipe(odd)
    Run(recipe, usual, Display())
    with pytest.raises(LlmtuneError, match=r"mod\\udce8le.*not UTF-8"):
        Run(recipe, odd, Display())

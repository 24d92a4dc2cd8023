"""Which artifact each stage takes, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.errors import RecipeError
from llmtune.recipe import Recipe, load_recipe, resolve_inputs
from llmtune.stages.stage import Need
from tests.recipe.conftest import GOOD
from tests.recipe.toys import KINDS, ToyDistill, ToyTrain

Load = Callable[..., Recipe]


def wired(recipe: Recipe) -> dict[str, dict[str, str]]:
    return {node.id: node.inputs for node in resolve_inputs(recipe)}


def test_the_last_artifact_of_each_kind_and_an_evaluation_of_every_model(load: Load) -> None:
    assert list(wired(load(GOOD)).items()) == [
        ("base", {}),
        ("corpus", {}),
        ("base.evaluate", {"model": "base", "base": "base", "corpus": "corpus"}),
        ("train", {"checkpoint": "base", "corpus": "corpus"}),
        ("train.evaluate", {"model": "train", "base": "base", "corpus": "corpus"}),
        ("quantize", {"checkpoint": "train", "corpus": "corpus"}),
        ("quantize.evaluate", {"model": "quantize", "base": "base", "corpus": "corpus"}),
        ("export", {"checkpoint": "quantize"}),
        ("export.evaluate", {"model": "export", "base": "base", "corpus": "corpus"}),
        ("export-2", {"checkpoint": "train"}),
        ("export-2.evaluate", {"model": "export-2", "base": "base", "corpus": "corpus"}),
    ]


def test_no_evaluation_unless_asked_for(load: Load) -> None:
    nodes = resolve_inputs(load(GOOD.replace("evaluate: {}\n", "")))
    assert [node.id for node in nodes] == ["base", "corpus", "train", "quantize", "export", "export-2"]
    assert [node.stage.kind for node in nodes][:2] == ["model", "corpus"]


def test_a_recipe_without_a_corpus_scores_without_one(load: Load) -> None:
    text = "name: a\nmodel: b\nstages: [quantize, export]\nevaluate: {}\n"
    assert list(wired(load(text)).items()) == [
        ("base", {}),
        ("base.evaluate", {"model": "base", "base": "base"}),
        ("quantize", {"checkpoint": "base"}),
        ("quantize.evaluate", {"model": "quantize", "base": "base"}),
        ("export", {"checkpoint": "quantize"}),
        ("export.evaluate", {"model": "export", "base": "base"}),
    ]


CORPUS = "  - corpus: {sources: [{path: x}]%s}\n"


def test_not_made_by_looks_past_the_last(load: Load) -> None:
    text = "name: a\nmodel: b\nstages:\n" + CORPUS % "" + "  - quantize\n  - train\n"
    assert wired(load(text))["train"] == {"checkpoint": "base", "corpus": "corpus"}


def test_from_names_several_and_the_base(load: Load) -> None:
    text = "name: a\nmodel: b\nstages:\n" + CORPUS % "" + CORPUS % ", id: more"
    text += "  - train\n  - train: {from: [base, corpus]}\n  - merge: {from: [train-2, train]}\n"
    inputs = wired(load(text))
    assert inputs["train"] == {"checkpoint": "base", "corpus": "more"}
    assert inputs["train-2"] == {"checkpoint": "base", "corpus": "corpus"}
    assert inputs["merge"] == {"checkpoint": "train-2", "other": "train"}


def test_every_score_is_measured_on_the_corpus_that_was_trained_on(load: Load) -> None:
    """Also the base's, and also after a later corpus; a model older than that corpus waits for it."""
    text = "name: a\nmodel: b\nevaluate: {}\nstages:\n" + CORPUS % ", id: raw" + "  - export\n" + CORPUS % ", id: good"
    text += "  - train\n" + CORPUS % ", id: later" + "  - export: {from: train}\n"
    inputs = wired(load(text))
    assert {name: source["corpus"] for name, source in inputs.items() if name.endswith(".evaluate")} == {
        "base.evaluate": "good",
        "export.evaluate": "good",
        "train.evaluate": "good",
        "export-2.evaluate": "good",
    }
    order = list(inputs)
    assert order.index("good") < order.index("base.evaluate") < order.index("train")


def test_a_recipe_made_in_python_is_wired_alike_and_says_what_is_wrong() -> None:
    recipe = Recipe(name="a", model="b", stages=[ToyTrain()])
    assert recipe.stages[0].id == "train"
    with pytest.raises(RecipeError, match="stage 'train' needs a corpus"):
        resolve_inputs(recipe)


def test_unnamed_stages_are_numbered_among_themselves(load: Load) -> None:
    text = "name: a\nmodel: b\nstages: [export, {export: {id: mine}}, export, quantize, export]\n"
    assert [stage.id for stage in load(text).stages] == ["export", "mine", "export-2", "quantize", "export-3"]


def test_the_base_and_the_last_model_answer_the_prompts_of_the_report(load: Load) -> None:
    text = GOOD.replace("evaluate: {}\n", "report: {prompts: [Why?]}\n")
    nodes = resolve_inputs(load(text))
    assert [(node.id, node.inputs) for node in nodes[-2:]] == [
        ("base.answers", {"model": "base"}),
        ("export-2.answers", {"model": "export-2"}),
    ]
    assert nodes[-1].stage.prompts == ["Why?"]


def test_the_inputs_of_the_real_stages(monkeypatch: pytest.MonkeyPatch, write: Callable[[str], Path]) -> None:
    """A GGUF file and an adapter come from what was trained, unless `from` says otherwise."""
    monkeypatch.undo()
    text = "name: a\nmodel: smollm2-135m-instruct-q4\nreport: {prompts: [x]}\nstages:\n"
    text += "  - corpus: {sources: [{format: python-docs}]}\n  - train: {tokens: 10_000, adapter: {}}\n"
    text += "  - quantize\n  - export\n  - export: {format: gguf}\n  - export: {format: gguf, from: quantize}\n"
    inputs = wired(load_recipe(write(text + "  - export: {format: adapter}\n")))
    assert {name: source.get("checkpoint") for name, source in inputs.items() if name.startswith("export")} == {
        "export": "quantize",
        "export-2": "train",
        "export-3": "quantize",
        "export-4": "train",
        "export-3.answers": None,
    }
    assert inputs["export-4"]["base"] == "base"
    assert inputs["export-3.answers"] == {"model": "export-3"}


class Study(ToyDistill):
    """Lets a model of its own look at the base model, and makes none."""

    kind = "study"
    makes = "corpus"
    needs = (
        Need("base", "checkpoint", made_by=("model",)),
        Need("teacher", "checkpoint", made_by=("gone",), setting="teacher"),
    )


ROAD = "name: a\nmodel: b\nstages:\n" + CORPUS % "" + "  - train\n  - quantize\n  - distill: {%s}\n"


def test_the_teacher_is_the_last_checkpoint_that_lost_nothing(load: Load) -> None:
    road = ROAD % "teacher: base" + "  - train: {id: on}\n  - distill\n"
    assert wired(load(road))["distill-2"] == {"checkpoint": "on", "corpus": "corpus", "teacher": "train"}


@pytest.mark.parametrize("settings", ["from: train", "from: train, teacher: train"])
def test_nobody_learns_from_itself(load: Load, settings: str) -> None:
    with pytest.raises(RecipeError, match="the teacher would be 'train', which 'distill' takes as its checkpoint"):
        load(ROAD % settings)


def test_a_setting_names_an_input(load: Load) -> None:
    assert wired(load(ROAD % "teacher: base"))["distill"]["teacher"] == "base"
    assert wired(load(ROAD % "teacher: base, from: train"))["distill"]["checkpoint"] == "train"


def test_a_teacher_from_elsewhere_is_a_node_of_its_own_and_has_no_scores(load: Load) -> None:
    nodes = {node.id: node for node in resolve_inputs(load(ROAD % "teacher: {name: org/big}" + "evaluate: {}\n"))}
    assert nodes["distill"].inputs["teacher"] == "distill.teacher"
    assert nodes["distill.teacher"].stage.model.name == "org/big"  # type: ignore[attr-defined]
    assert list(nodes).index("distill.teacher") < list(nodes).index("distill")
    assert "distill.evaluate" in nodes
    assert "distill.teacher.evaluate" not in nodes


def test_a_teacher_from_elsewhere_is_nobody_elses_input(
    load: Load, problems: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "study", Study)
    text = ROAD % "teacher: {name: org/big}" + "  - distill\n  - study: {teacher: {name: org/other}}\n"
    nodes = wired(load(text + "report: {prompts: [x]}\n"))
    assert nodes["distill-2"] == {"checkpoint": "distill", "corpus": "corpus", "teacher": "train"}
    assert nodes["study"] == {"base": "base", "teacher": "study.teacher"}
    assert list(nodes)[-2:] == ["base.answers", "distill-2.answers"]
    (told,) = problems(text + "  - export: {from: distill.teacher}\n")
    assert "no stage 'distill.teacher' before this one" in told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("teacher: trian", "no stage 'trian' before this one; did you mean 'train'?"),
        ("teacher: corpus", "'corpus' (corpus) makes a corpus; 'teacher' of 'distill' takes a checkpoint"),
        (
            "teacher: quantize",
            "'quantize' (quantize) makes a checkpoint; 'teacher' of 'distill' takes a checkpoint that no",
        ),
        ("teacher: distill", "'distill' is not made yet at this stage"),
    ],
)
def test_a_teacher_that_cannot_be(load: Load, settings: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(ROAD % settings)
    assert told in str(caught.value)
    assert ":7:" in str(caught.value)

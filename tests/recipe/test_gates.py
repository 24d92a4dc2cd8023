"""Gates are read with the recipe: what cannot be checked later is told now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmtune.recipe import Recipe
from tests.recipe.conftest import GOOD

Load = Callable[..., Recipe]
Problems = Callable[..., list[str]]


def test_good_gates(load: Load) -> None:
    text = GOOD.replace("tokens: 250_000", "gates: {domain_perplexity: '<= 0.75 of base'}")
    recipe = load(text + "gates: {bytes: '<= 80 MB', domain_accuracy: '>= 0.95 of train'}\n")
    assert recipe.gates == {"bytes": "<= 80 MB", "domain_accuracy": ">= 0.95 of train"}
    assert recipe.stages[1].gates == {"domain_perplexity": "<= 0.75 of base"}


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ("{bites: '<= 80 MB'}", "recipe.yaml:16:16: gates.bites: no score is called 'bites'; did you mean 'bytes'?"),
        ("{bytes: small}", "recipe.yaml:16:16: gates.bytes: found 'small'; expected for example"),
        ("{bytes: '<= 0.5 of bse'}", "recipe.yaml:16:16: gates.bytes: no model 'bse' to compare with; did you mean"),
        ("{bytes: '<= 0.5 of corpus'}", "recipe.yaml:16:16: gates.bytes: no model 'corpus' to compare with"),
        ("{bytes: 80}", "recipe.yaml:16:16: gates.bytes: found 80, expected text (put it in quotes)"),
    ],
)
def test_a_wrong_gate_of_the_recipe(problems: Problems, gates: str, expected: str) -> None:
    (told,) = problems(GOOD + f"gates: {gates}\n")
    assert told.startswith(expected)


def test_a_stage_cannot_be_compared_with_a_later_one(problems: Problems) -> None:
    text = GOOD.replace("tokens: 250_000", "gates: {bytes: '<= 0.5 of export'}")
    assert problems(text)[0].startswith("recipe.yaml:10:22: gates.bytes: no model 'export' to compare with")


def test_a_corpus_has_no_scores(problems: Problems) -> None:
    text = GOOD.replace("format: html}]", "format: html}]\n      gates: {bytes: '<= 1 MB'}")
    (told,) = problems(text)
    assert told == "recipe.yaml:8:14: gates of 'corpus': it makes a corpus, which has no scores"


def test_gates_without_an_evaluation(problems: Problems) -> None:
    (told,) = problems(GOOD.replace("evaluate: {}", "gates: {bytes: '<= 80 MB'}"))
    assert told == "recipe.yaml:15:8: gates: nothing is measured in this recipe; add `evaluate: {}`"


@pytest.mark.parametrize(
    ("evaluate", "gate", "reason"),
    [
        ("{}", "{own_accuracy: '>= 0.9'}", "own_questions is not set"),
        ("{general: null}", "{general_perplexity: '<= 9'}", "evaluate.general is null"),
        ("{speed: false}", "{decode_tokens_per_second: '>= 9'}", "evaluate.speed is false"),
        ("{questions: 0}", "{domain_accuracy: '>= 0.5'}", "evaluate.questions is 0"),
        ("{tokens: 0}", "{domain_bits_per_byte: '<= 1'}", "evaluate.tokens is 0"),
    ],
)
def test_a_gate_on_what_is_not_measured(problems: Problems, evaluate: str, gate: str, reason: str) -> None:
    (told,) = problems(GOOD.replace("evaluate: {}", f"evaluate: {evaluate}") + f"gates: {gate}\n")
    assert "it is not measured here" in told
    assert reason in told


def test_a_model_is_not_compared_with_itself(problems: Problems) -> None:
    text = GOOD.replace("tokens: 250_000", "gates: {domain_perplexity: '<= 0.9 of train'}")
    assert "no model 'train' to compare with" in problems(text)[0]
    assert "no model 'export-2' to compare with" in problems(GOOD + "gates: {bytes: '<= 0.9 of export-2'}\n")[0]

"""The `search:` block, read: what is wrong is told with its place before anything runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmtune.recipe import Recipe, dump_resolved, load_recipe, resolve_inputs
from llmtune.recipe.space import watched_stage
from llmtune.run.planning import PlannedNode
from llmtune.search.forecast import varied
from llmtune.search.sampler import Space
from llmtune.stages.stage import Forecast, Plan
from tests.recipe.conftest import GOOD, load, problems, toy_stages, write  # noqa: F401
from tests.recipe.toys import KINDS

LINES = GOOD.count("\n")  # the block begins behind them
MINIMIZE = "  minimize: train.loss\n"


def block(space: str, rest: str = MINIMIZE) -> str:
    return f"{GOOD}search:\n  space:\n{space}{rest}"


WRONG = {
    "a field that does not exist": (
        "    train.lerning_rate: {low: 1e-4, high: 1e-3}\n",
        MINIMIZE,
        "3:5: unknown key 'lerning_rate' in train; did you mean 'learning_rate'?",
    ),
    "a stage that does not exist": (
        "    trian.tokens: {choices: [1, 2]}\n",
        MINIMIZE,
        "3:5: no stage or setting 'trian'; did you mean 'train'?",
    ),
    "a choice of the wrong type": (
        "    train.adapter.rank: {choices: [4, 8, many]}\n",
        MINIMIZE,
        "3:42: train.adapter.rank: found 'many', expected a whole number",
    ),
    "an end of the range that the field forbids": (
        "    train.tokens: {low: 0, high: 100}\n",
        MINIMIZE,
        "3:5: train.tokens: found 0, expected a number above 0",
    ),
    "numbers for a field of whole numbers": (
        "    train.adapter.rank: {low: 1, high: 9, step: 0.5}\n",
        MINIMIZE,
        "3:5: search.space.train.adapter.rank: the field takes whole numbers; write low, high and step as such",
    ),
    "counts and shares in one range": (
        "    train.warmup: {low: 0.5, high: 2}\n",
        MINIMIZE,
        "3:5: search.space.train.warmup: a whole number is something else here than a share; write low, high and step",
    ),
    "a range of words": (
        "    train.precision: {low: 1, high: 2}\n",
        MINIMIZE,
        "train.precision: found 1, expected 'auto', 'bf16' or 'fp32'",
    ),
    "a grid over all numbers": (
        "    train.learning_rate: {low: 1e-4, high: 1e-3}\n",
        MINIMIZE + "  sampler: grid\n",
        "3:5: search.space.train.learning_rate: a grid needs a step here",
    ),
    "a grid with a number of trials": (
        "    train.tokens: {choices: [1, 2]}\n",
        MINIMIZE + "  sampler: grid\n  trials: 3\n",
        "a grid tries every combination",
    ),
    "a low above the high": ("    train.tokens: {low: 9, high: 3}\n", MINIMIZE, "low (9) must be below high (3)"),
    "true for a number": ("    train.tokens: {low: true, high: 3}\n", MINIMIZE, "low: found true, expected a"),
    "a choice twice": ("    train.tokens: {choices: [3, 3]}\n", MINIMIZE, "a choice is here twice"),
    "log from zero": ("    train.learning_rate: {low: 0, high: 1, log: true}\n", MINIMIZE, "a low above 0"),
    "nothing to be judged by": ("    train.tokens: {choices: [1, 2]}\n", "", "expected one of minimize: and maximize:"),
    "an objective of no stage": (
        "    train.tokens: {choices: [1, 2]}\n",
        "  minimize: tarin.loss\n",
        "4:13: search.minimize: no stage 'tarin'; did you mean 'train'?",
    ),
    "a score of a corpus": (
        "    corpus.near_duplicates: {choices: [0.7, 0.8]}\n",
        "  maximize: corpus.domain_accuracy\n",
        "4:13: search.maximize: domain_accuracy is a score of a model, and 'corpus' makes a corpus",
    ),
    "a stage that comes later": (
        "    train.tokens: {choices: [1, 2]}\n    quantize.bits: {choices: [3, 4]}\n",
        MINIMIZE,
        "4:5: search.space.quantize.bits: 'quantize' has no part in train.loss, which comes of base, corpus, train",
    ),
    "scores that do not count": (
        "    evaluate.questions: {choices: [1, 2]}\n",
        MINIMIZE,
        "3:5: search.space.evaluate.questions: train.loss is measured by the stage itself",
    ),
    "what is of the run": ("    name: {choices: [a, b]}\n", MINIMIZE, "3:5: search.space.name: trials cannot differ"),
    "the name of a stage": (
        "    train.id: {choices: [train, other]}\n",
        MINIMIZE,
        "3:5: search.space.train.id: trials cannot differ",
    ),
    "a field inside another": (
        "    train.adapter: {choices: [null, {rank: 4}]}\n    train.adapter.rank: {choices: [4, 8]}\n",
        MINIMIZE,
        "3:5: search.space.train.adapter: 'train.adapter.rank' is a part of this",
    ),
    "one and true": ("    train.tokens: {choices: [1, true]}\n", MINIMIZE, "a choice is here twice"),
    "values that never go together": (
        "    train.adapter.type: {choices: [qlora]}\n    train.precision: {choices: [fp32]}\n",
        MINIMIZE,
        "qlora trains in bf16",
    ),
    "a pruner without losses": (
        "    train.tokens: {choices: [1, 2]}\n",
        MINIMIZE + "  pruner: median\n",
        "5:11: search.pruner: nothing is trained on the way to train.loss",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(case: str, problems: Callable[..., list[str]]) -> None:  # noqa: F811
    space, rest, expected = WRONG[case]
    told = problems(block(space, rest))
    place, _, text = expected.partition(": ")
    if place[0].isdigit():
        line, column = place.split(":")
        expected = f"recipe.yaml:{LINES + int(line)}:{column}: {text}"
    assert any(expected in one for one in told), told
    assert len(told) <= 2


def test_every_problem_is_told_at_once(problems: Callable[..., list[str]]) -> None:  # noqa: F811
    space = (
        "    train.lerning_rate: {low: 1e-4, high: 1e-3}\n"
        "    train.adapter.rank: {choices: [4, none]}\n"
        "    corpus.near_duplicates: {low: 0.5, high: 1.5}\n"
    )
    assert len(problems(block(space))) == 3


MANY = (
    "    train.lerning_rate: {low: 3, high: 2}\n"  # wrong as a range, and no such field
    "    train.adapter.rank: {choices: [4, none]}\n"
    "    trian.tokens: {choices: []}\n"
    "    train.warmup: {low: 0.5, high: 2}\n"
    "    quantize.bits: {choices: [3, 4]}\n"
)
TOLD = [
    "3:5: search.space.train.lerning_rate: low (3) must be below high (2)",
    "3:5: unknown key 'lerning_rate' in train; did you mean 'learning_rate'?",
    "4:39: train.adapter.rank: found 'none', expected a whole number",
    "5:5: no stage or setting 'trian'; did you mean 'train'?",
    "5:29: search.space.trian.tokens.choices: found a list of 0, expected at least 1 of them",
    "6:5: search.space.train.warmup: a whole number is something else here than a share; write low, high and step all "
    "as one of the two",
]
NO_PART = "7:5: search.space.quantize.bits: 'quantize' has no part in train.loss, which comes of base, corpus, train"
SAMPLER = "9:12: search.sampler: found 'best', expected 'grid', 'random' or 'tpe'"


def placed(told: list[str]) -> list[str]:
    return [f"recipe.yaml:{LINES + int(line)}:{rest}" for line, _, rest in (one.partition(":") for one in told)]


@pytest.mark.parametrize(
    ("rest", "more"),
    [
        (MINIMIZE, [NO_PART]),
        (MINIMIZE + "  sampler: best\n", [NO_PART, SAMPLER]),
        ("  minimize: tarin.loss\n", ["8:13: search.minimize: no stage 'tarin'; did you mean 'train'?"]),
        (
            "  minimize: tarin.loss\n  sampler: best\n",
            ["8:13: search.minimize: no stage 'tarin'; did you mean 'train'?", SAMPLER],
        ),
        ("", ["1:1: search: expected one of minimize: and maximize:, for example minimize: train.valid_loss"]),
        (
            MINIMIZE + "  maximize: train.accuracy\n",
            ["1:1: search: expected one of minimize: and maximize:, for example minimize: train.valid_loss"],
        ),
    ],
)
def test_a_wrong_objective_and_a_wrong_form_hide_nothing_else(
    problems: Callable[..., list[str]],  # noqa: F811
    rest: str,
    more: list[str],
) -> None:
    assert sorted(problems(block(MANY, rest))) == sorted(placed([*TOLD, *more]))


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("  trials: 0\n", ["trials: found 0", "expected one of minimize"]),
        (
            "  sampler: grid\n  trials: 3\n  prune_after: 2\n",
            ["expected one of minimize", "a grid tries every", "prune_after has no meaning"],
        ),
        ("  minimise: train.loss\n", ["unknown key 'minimise'"]),
        (MINIMIZE + "  prunner: median\n  prune_after: 2\n", ["unknown key 'prunner'"]),
        ("  seeed: 1\n", ["unknown key 'seeed'", "expected one of minimize"]),
        (MINIMIZE + "  sampler: grdi\n  trials: 3\n", ["sampler: found 'grdi'"]),
        (
            MINIMIZE + "  pruner: median\n  prune_after: 0\n",
            ["prune_after: found 0", "nothing is trained on the way"],
        ),
    ],
)
def test_settings_that_do_not_go_together_hide_none(
    problems: Callable[..., list[str]],  # noqa: F811
    rest: str,
    expected: list[str],
) -> None:
    told = problems(block("    train.tokens: {choices: [1, 2]}\n", rest))
    assert len(told) == len(expected), told
    assert all(any(text in one for one in told) for text in expected), told


def test_a_search_without_a_field_has_its_objective_looked_at(problems: Callable[..., list[str]]) -> None:  # noqa: F811
    told = problems(GOOD + "search: {space: {}, minimize: tarin.loss}\n")
    assert len(told) == 2
    assert "search.space: found an empty block, expected at least 1 of them" in told[0]
    assert "search.minimize: no stage 'tarin'" in told[1]
    (told_of_a_word,) = problems(GOOD + "search: train.tokens\n")
    assert "search: found 'train.tokens', expected a block of 'key: value' lines" in told_of_a_word


@pytest.mark.parametrize(
    ("written", "wrong", "own"),
    [
        ("tokens: 250_000", "tokns: 250_000", "unknown key 'tokns' in train"),
        ("seed: 7", "seed: many", "seed: found 'many', expected a whole number"),
        ("evaluate: {}", "evaluate: {split: tset}", "evaluate.split: found 'tset', expected 'test' or 'valid'"),
    ],
)
def test_a_recipe_that_is_wrong_elsewhere_has_its_search_looked_at(
    problems: Callable[..., list[str]],  # noqa: F811
    written: str,
    wrong: str,
    own: str,
) -> None:
    told = problems(block(MANY, "  minimize: tarin.loss\n").replace(written, wrong))
    objective = "8:13: search.minimize: no stage 'tarin'; did you mean 'train'?"
    (other,) = [one for one in told if own in one]
    assert sorted(told) == sorted([*placed([*TOLD, objective]), other])


def test_a_score_is_no_mistake_while_what_is_evaluated_is_wrong(problems: Callable[..., list[str]]) -> None:  # noqa: F811
    text = block("    train.tokens: {choices: [1, 2]}\n", "  minimize: train.domain_perplexity\n")
    (told,) = problems(text.replace("evaluate: {}", "evaluate: {split: tset}"))
    assert "evaluate.split" in told


def test_the_stages_of_a_space_are_not_guessed_from_wrong_ones(problems: Callable[..., list[str]]) -> None:  # noqa: F811
    (told,) = problems(block("    train.tokens: {choices: [1, 2]}\n").replace("- train:", "- trian:"))
    assert "unknown stage 'trian'" in told


def test_what_a_trial_puts_right_is_told_all_the_same(problems: Callable[..., list[str]]) -> None:  # noqa: F811
    (told,) = problems(block("    train.tokens: {choices: [1, 2]}\n").replace("250_000", "many"))
    assert "train.tokens: found 'many', expected a whole number" in told


def test_values_that_do_not_always_go_together_are_a_matter_of_trials(load: Callable[..., object]) -> None:  # noqa: F811
    space = "    train.adapter.type: {choices: [lora, qlora]}\n    train.precision: {choices: [bf16, fp32]}\n"
    assert load(block(space))


def test_the_kind_of_range_is_the_fields_or_that_of_its_numbers(load: Callable[..., object]) -> None:  # noqa: F811
    recipe = load(
        block(
            "    corpus.near_duplicates: {low: 0, high: 1}\n"
            "    train.adapter.rank: {low: 2, high: 9, step: 3}\n"
            "    train.tokens: {low: 10, high: 1000, log: true}\n"
            "    seed: {low: 1, high: 3}\n"
            "    train.warmup: {low: 1, high: 4}\n"
        )
    )
    kinds = {key: repr(one) for key, one in Space(recipe).distributions.items()}  # type: ignore[arg-type]
    assert kinds == {
        "corpus.near_duplicates": "FloatDistribution(high=1.0, log=False, low=0.0, step=None)",
        "train.adapter.rank": "IntDistribution(high=8, log=False, low=2, step=3)",
        "train.tokens": "IntDistribution(high=1000, log=True, low=10, step=1)",
        "seed": "IntDistribution(high=3, log=False, low=1, step=1)",
        "train.warmup": "IntDistribution(high=4, log=False, low=1, step=1)",
    }
    shares = load(block("    train.warmup: {low: 0.1, high: 0.4, step: 0.1}\n", MINIMIZE + "  sampler: grid\n"))
    assert Space(shares)._grid() == {"train.warmup": [0.1, 0.2, 0.3, 0.4]}  # type: ignore[arg-type]
    whole = load(block("    train.warmup: {low: 0.5, high: 1, step: 0.25}\n", MINIMIZE + "  sampler: grid\n"))
    assert [repr(one) for one in Space(whole)._grid()["train.warmup"]] == ["0.5", "0.75", "1.0"]  # type: ignore[arg-type]


def test_a_resolved_recipe_keeps_its_search(load: Callable[..., object], write: Callable[..., object]) -> None:  # noqa: F811
    recipe = load(block("    train.adapter: {choices: [null, {rank: 4}]}\n", "  maximize: train.domain_accuracy\n"))
    assert load_recipe(write(dump_resolved(recipe))) == recipe  # type: ignore[arg-type]


def test_a_pruner_watches_the_last_training_before_the_figure(toys: None, write: Callable[..., object]) -> None:  # noqa: F811
    from tests.search.conftest import RECIPE

    text = "\n  space:\n    learn.width: {choices: [4, 8]}\n  minimize: squeeze.bits\n  pruner: median\n"
    assert watched_stage(load_recipe(write(RECIPE + text))) == "learn"  # type: ignore[arg-type]


TAUGHT = GOOD.replace("  - quantize\n", "  - distill: {teacher: {name: org/big}}\n  - quantize\n").replace(
    "evaluate: {}\n", ""
)


@pytest.mark.parametrize(
    ("field", "others"),
    [
        ("model.name", {"base", "train", "distill", "quantize"}),
        ("distill.teacher", {"distill.teacher", "distill", "quantize"}),
        ("quantize.bits", {"quantize"}),
    ],
)
def test_what_differs_between_trials(load: Callable[..., Recipe], field: str, others: set[str]) -> None:  # noqa: F811
    plan = Plan(Forecast("checkpoint", 0), 0, 0)
    nodes = [PlannedNode(node, node.stage, {}, "", plan, None) for node in resolve_inputs(load(TAUGHT))]
    assert varied([node for node in nodes if not node.node.id.startswith("export")], [field]) == others


def test_a_score_that_the_model_will_not_have(
    problems: Callable[..., list[str]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KINDS["export"], "makes_whole_model", False)
    (told,) = problems(block("    train.tokens: {choices: [1, 2]}\n", "  minimize: export.domain_perplexity\n"))
    assert "domain_perplexity is not measured here: of 'export', an adapter alone" in told

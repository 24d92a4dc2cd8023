"""Gates are read with the recipe: what cannot be checked later is told now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmtune import stages
from llmtune.recipe import Recipe, resolve_inputs
from llmtune.stages.stage import Need
from tests.recipe.conftest import GOOD
from tests.recipe.toys import KINDS, ToyCorpus, ToyMerge, ToyTrain

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
        ("{knowledge: 0}", "{knowledge_above_chance: '>= 1.3 of base'}", "evaluate.knowledge is 0"),
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


ROAD = """\
name: road
model: smollm2-135m-instruct-q4
stages:
  - corpus: {sources: [{format: python-docs}]}
  - train: {adapter: {rank: 8}}
  - export: {format: adapter}
evaluate: {}
"""


@pytest.fixture
def real_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages that have what these problems are about: formats, adapters, shares of a split."""
    from llmtune.stages.corpus import CorpusStage
    from llmtune.stages.export import ExportStage
    from llmtune.stages.train import TrainStage

    monkeypatch.setattr(
        stages, "stage_kinds", lambda: {one.kind: one for one in (CorpusStage, TrainStage, ExportStage)}
    )


@pytest.mark.usefixtures("real_stages")
def test_of_an_adapter_alone_only_its_size_is_measured(load: Load, problems: Problems) -> None:
    load(ROAD + "gates: {bytes: '<= 0.1 of train'}\n")
    load(ROAD.replace("rank: 8}", "rank: 8}, gates: {domain_perplexity: '<= 1 of base'}"))
    (told,) = problems(ROAD + "gates: {domain_perplexity: '<= 1 of base'}\n")
    assert told == (
        "recipe.yaml:8:28: gates.domain_perplexity: it is not measured here: of 'export', an adapter alone, only bytes "
        "are; ask it of the stage that trained the adapter"
    )
    (told,) = problems(ROAD.replace("format: adapter", "format: adapter, gates: {parameters: '<= 1 G'}"))
    assert told.startswith("recipe.yaml:6:51: gates.parameters: it is not measured here: of 'export', an adapter")


@pytest.mark.usefixtures("real_stages")
@pytest.mark.parametrize("other", ["export", "previous"])
def test_an_adapter_alone_is_nothing_to_compare_with(load: Load, problems: Problems, other: str) -> None:
    text = ROAD.replace("evaluate:", "  - export: {format: hf}\nevaluate:")
    load(text + f"gates: {{bytes: '<= 99 of {other}', general_perplexity: '<= 1 of train'}}\n")
    (told,) = problems(text + f"gates: {{general_perplexity: '<= 1 of {other}'}}\n")
    assert "gates.general_perplexity: it is not measured here: of 'export', an adapter alone" in told


@pytest.mark.usefixtures("real_stages")
@pytest.mark.parametrize("gate", ["domain_perplexity: '<= 9'", "domain_accuracy: '>= 0.5'"])
def test_a_gate_on_text_that_is_not_held_out(load: Load, problems: Problems, gate: str) -> None:
    text = ROAD.replace("format: adapter", "format: hf").replace("docs}]", "docs}], split: {test: 0}")
    (told,) = problems(text + f"gates: {{{gate}}}\n")
    assert told.startswith("recipe.yaml:8:")
    assert told.endswith("it is not measured here: split.test of 'corpus' is 0, so no text is held out")
    load(text.replace("evaluate: {}", "evaluate: {split: valid}") + f"gates: {{{gate}}}\n")
    load(text + "gates: {general_perplexity: '<= 99', bytes: '<= 1 GB'}\n")


@pytest.mark.usefixtures("real_stages")
def test_what_is_held_out_is_asked_of_the_corpus_of_the_scores(load: Load, problems: Problems) -> None:
    """Of two corpora the first that is trained on; the other's split does not matter."""
    whole = "  - corpus: {sources: [{format: python-docs}], split: {test: 0}}\n"
    text = ROAD.replace("format: adapter", "format: hf") + "gates: {domain_bits_per_byte: '<= 1 of base'}\n"
    load(text.replace("  - export", whole + "  - export"))
    load(text.replace("  - corpus", whole + "  - corpus"))
    taken = text.replace("  - corpus", whole + "  - corpus").replace("train: {", "train: {from: corpus, ")
    assert "split.test of 'corpus' is 0" in problems(taken)[0]


@pytest.mark.usefixtures("real_stages")
def test_an_adapter_for_other_weights_than_the_bases_is_not_exported_alone(load: Load, problems: Problems) -> None:
    text = ROAD.replace("  - train", "  - train: {id: whole}\n  - train")
    (told,) = problems(text)
    assert told == (
        "recipe.yaml:7:22: format: adapter: the adapter of 'train' belongs on the weights of 'whole', not on the base "
        "model; export the merged checkpoint with format: hf, or train the adapter on the base model itself (`from: "
        "base` in 'train')"
    )
    load(text.replace("format: adapter", "format: hf"))
    load(text.replace("rank: 8}", "rank: 8}, from: base"))
    load(text.replace("- export: {", "- train: {id: last, from: base, adapter: {rank: 4}}\n  - export: {"))
    assert (
        "the adapter of 'last' belongs on"
        in problems(text.replace("- export: {", "- train: {id: last, adapter: {rank: 4}}\n  - export: {"))[0]
    )


@pytest.mark.usefixtures("real_stages")
def test_a_stage_wrong_in_itself_is_not_judged_by_what_it_may_take(problems: Problems) -> None:
    text = ROAD.replace("  - train", "  - train: {id: whole}\n  - train").replace("sources:", "surces:")
    assert not [told for told in problems(text) if "adapter" in told]


class Delta(ToyMerge):
    """A stage of another package that exports what a training changed, without a setting called `format`."""

    kind = "delta"
    makes = "bundle"
    needs = (Need("checkpoint", "checkpoint", made_by=("tune",)), Need("base", "checkpoint", made_by=("model",)))

    @property
    def makes_whole_model(self) -> bool:
        return False


class Tune(ToyTrain):
    """One that trains an adapter, whatever its setting `adapter` says."""

    kind = "tune"

    @property
    def makes_adapter(self) -> bool:
        return True


class Dump(ToyMerge):
    """One whose `format` is called adapter and which exports a whole model all the same."""

    kind = "dump"
    makes = "bundle"
    needs = (Need("checkpoint", "checkpoint"),)
    format: str = "adapter"


class Shards(ToyCorpus):
    """A corpus whose `split` is no block of shares."""

    kind = "shards"
    split: str = "none"

    def held_out(self, split: str) -> float | None:
        return 0.0 if split == "test" else None


OTHERS = """\
name: others
model: smollm2-135m-instruct-q4
stages:
  - shards: {sources: [{path: manual/}]}
  - train
  - tune: {from: base}
  - delta
  - dump
evaluate: {}
report: {prompts: [why]}
"""


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = KINDS | {one.kind: one for one in (Delta, Tune, Dump, Shards)}
    monkeypatch.setattr(stages, "stage_kinds", lambda: kinds)


@pytest.mark.usefixtures("others")
def test_stages_of_other_packages_are_asked_and_not_known_by_their_fields(load: Load, problems: Problems) -> None:
    last = [node.id for node in resolve_inputs(load(OTHERS))][-2:]
    assert last == ["base.answers", "dump.answers"]
    without = OTHERS.replace("  - dump\n", "")
    assert [node.id for node in resolve_inputs(load(without))][-1] == "tune.answers"
    load(OTHERS + "gates: {general_perplexity: '<= 9'}\n")
    assert "of 'delta', an adapter alone" in problems(without + "gates: {general_perplexity: '<= 9'}\n")[0]
    assert "so no text is held out" in problems(OTHERS + "gates: {domain_perplexity: '<= 9'}\n")[0]
    load(OTHERS.replace("evaluate: {}", "evaluate: {split: valid}") + "gates: {domain_perplexity: '<= 9'}\n")
    (told,) = problems(OTHERS.replace("tune: {from: base}", "tune"))
    assert "the adapter of 'tune' belongs on the weights of 'train'" in told

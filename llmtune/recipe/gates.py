"""The gates of a recipe, read when the recipe is: a gate that cannot be checked is a mistake, not a surprise later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmtune.errors import LlmtuneError
from llmtune.recipe.faults import nearest
from llmtune.recipe.graph import MODEL_KINDS, is_known, known_nodes, scoring_corpus
from llmtune.recipe.recipe import BASE, Recipe
from llmtune.recipe.source import Path
from llmtune.stages.stage import Stage

_OF_AN_ADAPTER = ("bytes",)  # all that is measured of an adapter exported alone


def gate_problems(recipe: Recipe) -> list[tuple[Path, str]]:
    """(path in the YAML, what is wrong) of every gate of the recipe and of its stages."""
    models = [BASE, *(str(stage.id) for stage in recipe.stages if stage.makes in MODEL_KINDS)]
    problems = list(_block(("gates",), recipe.gates, recipe, models))
    for index, stage in enumerate(recipe.stages):
        path = ("stages", index, stage.kind, "gates")
        if stage.gates and stage.makes not in MODEL_KINDS:
            problems.append((path, f"gates of '{stage.id}': it makes a {stage.makes}, which has no scores"))
            continue
        if stage.gates:
            problems += _block(path, stage.gates, recipe, models[: models.index(str(stage.id)) + 1])
    return problems


def unmeasured(metric: str, recipe: Recipe) -> str | None:
    """Why no model of this recipe will have this score; None when models will."""
    settings = recipe.evaluate
    assert settings is not None
    without_corpus = not any(stage.makes == "corpus" for stage in recipe.stages)
    reasons = {
        "own_": ("evaluate.own_questions is not set", settings.own_questions is None),
        "general_": ("evaluate.general is null", settings.general is None),
        "domain_": ("the recipe has no corpus", without_corpus),
        "knowledge": ("the recipe has no corpus", without_corpus),
        "knowledge_": ("evaluate.knowledge is 0", not settings.knowledge),
        "domain_accuracy": ("evaluate.questions is 0", not settings.questions),
        "domain_perplexity": ("evaluate.tokens is 0", not settings.tokens),
        "domain_bits": ("evaluate.tokens is 0", not settings.tokens),
        "decode_": ("evaluate.speed is false", not settings.speed),
        "prefill_": ("evaluate.speed is false", not settings.speed),
        "peak_memory": ("evaluate.speed is false", not settings.speed),
    }
    told = next((reason for start, (reason, true) in reasons.items() if true and metric.startswith(start)), None)
    return told or (_nothing_held_out(recipe, settings.split) if metric.startswith("domain_") else None)


def _nothing_held_out(recipe: Recipe, split: str) -> str | None:
    """That the corpus of the scores holds out no text, where its settings say so."""
    stage = _stage(recipe, scoring_corpus(known_nodes(recipe)))
    if stage is None or stage.held_out(split) != 0:  # None: not known before it is made
        return None
    return f"split.{split} of '{stage.id}' is 0, so no text is held out"


def size_alone(metric: str, model: str | None, recipe: Recipe) -> str | None:
    """Why this model will not have a score that others have; None where it will."""
    stage = _stage(recipe, model)
    if metric in _OF_AN_ADAPTER or stage is None or not is_known(stage) or stage.makes_whole_model:
        return None
    return f"of '{model}', an adapter alone, only bytes are; ask it of the stage that trained the adapter"


def _stage(recipe: Recipe, name: str | None) -> Stage | None:
    return next((stage for stage in recipe.stages if stage.id == name), None)


def _block(path: Path, gates: Mapping[str, str], recipe: Recipe, models: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The problems of one `gates:` block; `models` are the ids that have scores when it is checked, the last of them
    the one it is on."""
    if gates and recipe.evaluate is None:
        yield path, "gates: nothing is measured in this recipe; add `evaluate: {}`"
        return
    for metric, text in gates.items():
        from llmtune.evaluate.gates import parse_gate

        try:
            gate = parse_gate(metric, text)
        except LlmtuneError as error:
            yield (*path, metric), f"gates.{metric}: {error.what}"
            continue
        *others, subject = models
        against = others[-1] if gate.previous and others else gate.of
        reasons = (unmeasured(metric, recipe), *(size_alone(metric, one, recipe) for one in (subject, against)))
        if reason := next(filter(None, reasons), None):
            yield (*path, metric), f"gates.{metric}: it is not measured here: {reason}"
        if gate.of is not None and gate.of not in others:
            yield (*path, metric), f"gates.{metric}: no model '{gate.of}' to compare with{nearest(gate.of, others)}"

"""The gates of a recipe, read when the recipe is: a gate that cannot be checked is a mistake, not a surprise later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmtune.errors import LlmtuneError
from llmtune.recipe.faults import nearest
from llmtune.recipe.graph import MODEL_KINDS
from llmtune.recipe.recipe import BASE, Recipe
from llmtune.recipe.source import Path


def gate_problems(recipe: Recipe) -> list[tuple[Path, str]]:
    """(path in the YAML, what is wrong) of every gate of the recipe and of its stages."""
    models = [BASE, *(str(stage.id) for stage in recipe.stages if stage.makes in MODEL_KINDS)]
    problems = list(_block(("gates",), recipe.gates, recipe, models[:-1]))
    for index, stage in enumerate(recipe.stages):
        path = ("stages", index, stage.kind, "gates")
        if stage.gates and stage.makes not in MODEL_KINDS:
            problems.append((path, f"gates of '{stage.id}': it makes a {stage.makes}, which has no scores"))
            continue
        so_far = models[: models.index(str(stage.id))] if stage.gates else models
        problems += _block(path, stage.gates, recipe, so_far)
    return problems


def _unmeasured(metric: str, recipe: Recipe) -> str | None:
    """Why no model of this recipe will have this score; None when models will."""
    settings = recipe.evaluate
    assert settings is not None
    reasons = {
        "own_": ("evaluate.own_questions is not set", settings.own_questions is None),
        "general_": ("evaluate.general is null", settings.general is None),
        "domain_": ("the recipe has no corpus", not any(stage.makes == "corpus" for stage in recipe.stages)),
        "domain_accuracy": ("evaluate.questions is 0", not settings.questions),
        "domain_perplexity": ("evaluate.tokens is 0", not settings.tokens),
        "domain_bits": ("evaluate.tokens is 0", not settings.tokens),
        "decode_": ("evaluate.speed is false", not settings.speed),
        "prefill_": ("evaluate.speed is false", not settings.speed),
        "peak_memory": ("evaluate.speed is false", not settings.speed),
    }
    return next((reason for start, (reason, true) in reasons.items() if true and metric.startswith(start)), None)


def _block(path: Path, gates: Mapping[str, str], recipe: Recipe, models: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The problems of one `gates:` block; `models` are the ids that have scores when it is checked."""
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
        if reason := _unmeasured(metric, recipe):
            yield (*path, metric), f"gates.{metric}: it is not measured here: {reason}"
        if gate.of is not None and gate.of not in models:
            yield (*path, metric), f"gates.{metric}: no model '{gate.of}' to compare with{nearest(gate.of, models)}"

"""The gates of a recipe, read when the recipe is: a gate that cannot be checked is a mistake, not a surprise later. So
is an adapter that will not fit the base it is exported for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmtune.errors import LlmtuneError
from llmtune.recipe.faults import nearest
from llmtune.recipe.graph import MODEL_KINDS, Node, scoring_corpus, wire
from llmtune.recipe.recipe import BASE, Recipe
from llmtune.recipe.source import Path
from llmtune.stages.stage import Stage

_OF_AN_ADAPTER = ("bytes",)  # all that is measured of an adapter exported alone


def gate_problems(recipe: Recipe) -> list[tuple[Path, str]]:
    """(path in the YAML, what is wrong) of every gate of the recipe and of its stages, and of adapters for another
    base."""
    models = [BASE, *(str(stage.id) for stage in recipe.stages if stage.makes in MODEL_KINDS)]
    problems = list(_block(("gates",), recipe.gates, recipe, models))
    for index, stage in enumerate(recipe.stages):
        path = ("stages", index, stage.kind, "gates")
        if stage.gates and stage.makes not in MODEL_KINDS:
            problems.append((path, f"gates of '{stage.id}': it makes a {stage.makes}, which has no scores"))
            continue
        if stage.gates:
            problems += _block(path, stage.gates, recipe, models[: models.index(str(stage.id)) + 1])
    return [*problems, *_misfits(recipe)]


def _misfits(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    """Adapters to be exported alone that were not trained on the base they will be proven on: known from what takes
    what, where the files would show it only after all the training."""
    nodes = {node.id: node for node in _nodes(recipe)}
    for index, stage in enumerate(recipe.stages):
        inputs = nodes[str(stage.id)].inputs if nodes and _adapter_alone(stage) else {}
        if not {"checkpoint", "base"} <= inputs.keys():
            continue
        trained, base = nodes[inputs["checkpoint"]], inputs["base"]
        began = trained.inputs.get("checkpoint", base)
        if getattr(trained.stage, "adapter", None) is not None and began != base:
            text = (
                f"format: adapter: the adapter of '{trained.id}' belongs on the weights of '{began}', not on the base "
                "model; export the merged checkpoint with format: hf, or train the adapter on the base model itself "
                f"(`from: {base}` in '{trained.id}')"
            )
            yield ("stages", index, stage.kind, "format"), text


def _nodes(recipe: Recipe) -> Sequence[Node]:
    """Which stage takes what; nothing while a stage is wrong in itself and known by its kind alone, since what it takes
    can depend on its settings."""
    known = all(hasattr(stage, name) for stage in recipe.stages for name in type(stage).model_fields)
    return wire(recipe).nodes if known else ()


def _adapter_alone(stage: Stage | None) -> bool:
    """Whether a stage exports an adapter without its base. Stages of other packages need not have a format."""
    return stage is not None and stage.makes == "bundle" and getattr(stage, "format", None) == "adapter"


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
    told = next((reason for start, (reason, true) in reasons.items() if true and metric.startswith(start)), None)
    return told or (_nothing_held_out(recipe, settings.split) if metric.startswith("domain_") else None)


def _nothing_held_out(recipe: Recipe, split: str) -> str | None:
    """That the corpus of the scores holds out no text, where its settings say so."""
    corpus = scoring_corpus(_nodes(recipe))
    shares = getattr(_stage(recipe, corpus), "split", None)
    return f"split.{split} of '{corpus}' is 0, so no text is held out" if getattr(shares, split, None) == 0 else None


def _size_alone(metric: str, model: str | None, recipe: Recipe) -> str | None:
    """Why this model will not have a score that others have; None where it will."""
    if metric in _OF_AN_ADAPTER or not _adapter_alone(_stage(recipe, model)):
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
        reasons = (_unmeasured(metric, recipe), *(_size_alone(metric, one, recipe) for one in (subject, against)))
        if reason := next(filter(None, reasons), None):
            yield (*path, metric), f"gates.{metric}: it is not measured here: {reason}"
        if gate.of is not None and gate.of not in others:
            yield (*path, metric), f"gates.{metric}: no model '{gate.of}' to compare with{nearest(gate.of, others)}"

"""Plan before you pay: what each stage of a recipe will need on this machine, without loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmtune.artifacts import Artifact
from llmtune.files import fingerprint, folder_bytes
from llmtune.machine import Machine
from llmtune.recipe.graph import Node
from llmtune.run.process import launched_from_outside, world_size
from llmtune.run.store import Store
from llmtune.stages.stage import Forecast, Plan, Stage


@dataclass(frozen=True)
class PlannedNode:
    """One stage of the run: its settings, identity, fingerprint, estimate, and its artifact if that exists already."""

    node: Node
    stage: Stage
    identity: dict[str, Any]
    fingerprint: str
    plan: Plan
    artifact: Artifact | None


def plan_nodes(nodes: list[Node], seed: int, store: Store, machine: Machine) -> list[PlannedNode]:
    """Fingerprint and estimate every node, in the recipe's order; finished artifacts stand in for estimates."""
    planned: dict[str, PlannedNode] = {}
    forecasts: dict[str, Forecast] = {}
    for node in nodes:
        stage = as_launched(node.stage)
        inputs = {name: planned[source].fingerprint for name, source in node.inputs.items()}
        identity = stage.identity()
        key = node_fingerprint(stage, identity, inputs, seed)
        artifact = store.find(key)
        estimate = stage.plan({name: forecasts[source] for name, source in node.inputs.items()}, machine)
        if stage is not node.stage:
            text = "`launch:` is ignored: the ranks of the `accelerate launch` that started this run train it"
            estimate = replace(estimate, notes=(*estimate.notes, text))
        planned[node.id] = PlannedNode(node, stage, identity, key, estimate, artifact)
        forecasts[node.id] = _known(estimate.makes, artifact) if artifact else estimate.makes
    return list(planned.values())


def as_launched(stage: Stage) -> Stage:
    """The stage as it will run: under an outer `accelerate launch` its own `launch:` is ignored."""
    if launched_from_outside() and getattr(stage, "launch", None) is not None:
        return stage.model_copy(update={"launch": None})
    return stage


def trains(stage: Stage) -> bool:
    """Whether a stage is one that several ranks run together."""
    return "launch" in type(stage).model_fields


def node_fingerprint(stage: Stage, identity: Mapping[str, Any], inputs: Mapping[str, str], seed: int) -> str:
    """Fingerprint of all that decides a stage's result: kind, version, identity, inputs, seed and, for a stage that
    trains on several ranks of an outer launch, their number."""
    value: dict[str, Any] = {
        "kind": stage.kind,
        "version": stage.version,
        "settings": dict(identity),
        "inputs": dict(inputs),
    }
    if stage.seeded:
        value["seed"] = seed
    if trains(stage) and world_size() > 1:
        value["ranks"] = world_size()
    return fingerprint(value)


def _known(forecast: Forecast, artifact: Artifact) -> Forecast:
    """A forecast corrected by the artifact that exists."""
    shape = forecast.shape
    if artifact.kind == "checkpoint":
        from llmtune.models.shape import read_shape

        shape = read_shape(artifact.folder)
    tokens = forecast.tokens
    if artifact.kind == "corpus" and "splits" in artifact.metrics:
        from llmtune.corpus.estimate import tokens_of

        tokens = {name: tokens_of(split["characters"]) for name, split in artifact.metrics["splits"].items()}
    return replace(forecast, bytes=folder_bytes(artifact.folder), shape=shape, tokens=tokens, artifact=artifact)

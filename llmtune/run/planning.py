"""Plan before you pay: what each stage of a recipe will need on this machine, without loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmtune.artifacts import Artifact
from llmtune.files import fingerprint, folder_bytes
from llmtune.machine import Machine
from llmtune.recipe.graph import Node
from llmtune.run.process import launched_from_outside, world_size
from llmtune.run.store import Store
from llmtune.stages.stage import Forecast, LaunchedStage, Plan, Stage
from llmtune.words import human_bytes


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
        makes = estimate.makes
        if stage.keeps_tokenizer:
            makes = replace(makes, tokenizer=forecasts[node.inputs["checkpoint"]].tokenizer)
        forecasts[node.id] = _known(makes, artifact, store) if artifact else makes
    return list(planned.values())


def as_launched(stage: Stage) -> Stage:
    """The stage as it will run: under an outer `accelerate launch` its own `launch:` is ignored."""
    if launched_from_outside() and isinstance(stage, LaunchedStage) and stage.launch is not None:
        return stage.model_copy(update={"launch": None})
    return stage


def node_fingerprint(stage: Stage, identity: Mapping[str, Any], inputs: Mapping[str, str], seed: int) -> str:
    """Fingerprint of all that decides a stage's result: kind, version, identity, inputs, seed and, for a stage that
    several ranks of an outer launch run, their number."""
    value: dict[str, Any] = {
        "kind": stage.kind,
        "version": stage.version,
        "settings": dict(identity),
        "inputs": dict(inputs),
    }
    if stage.seeded:
        value["seed"] = seed
    if isinstance(stage, LaunchedStage) and world_size() > 1:
        value["ranks"] = world_size()
    return fingerprint(value)


def notes_of(nodes: list[PlannedNode]) -> list[str]:
    """What the plans of these stages say that is worth knowing."""
    return [f"{node.node.id}: {note}" for node in nodes for note in node.plan.notes]


def problems_of(todo: list[PlannedNode]) -> list[str]:
    """Why stages still to do cannot work here."""
    return [f"stage '{node.node.id}': {problem}" for node in todo for problem in node.plan.problems]


def doubts(todo: list[PlannedNode], machine: Machine, folder: Path) -> list[str]:
    """Why the stages still to do may not fit this machine, or the disk that holds `folder`."""
    found = [
        f"stage '{node.node.id}' may need {human_bytes(node.plan.memory)} of memory; "
        f"this machine has {human_bytes(machine.memory)}"
        for node in todo
        if node.plan.memory > machine.memory
    ]
    disk = kept = 0
    for node in todo:  # a stage's work is gone when the next begins, what it made stays
        disk, kept = max(disk, kept + node.plan.disk), kept + node.plan.makes.bytes
    free = machine.disk_free(folder)
    if disk > free:
        found.append(f"the run needs about {human_bytes(disk)} of disk; {human_bytes(free)} are free")
    return found


def remaining_seconds(nodes: list[PlannedNode]) -> float:
    """Estimated seconds of what is not done."""
    return sum(node.plan.seconds or 0.0 for node in nodes if node.artifact is None)


def _known(forecast: Forecast, artifact: Artifact, store: Store) -> Forecast:
    """A forecast corrected by the artifact that exists. The bytes of a model that lies elsewhere stay as foretold from
    its files: its folder may hold anything else too, the runs themselves among it."""
    shape, tokenizer = forecast.shape, forecast.tokenizer
    if artifact.kind == "checkpoint":
        from llmtune.models.shape import read_shape

        shape, tokenizer = read_shape(artifact.folder), artifact.folder
    tokens = forecast.tokens
    if artifact.kind == "corpus" and "splits" in artifact.metrics:
        from llmtune.corpus.estimate import tokens_of

        splits = artifact.metrics["splits"]
        tokens = {name: tokens_of(split.get("characters_read", split["characters"])) for name, split in splits.items()}
    size = folder_bytes(artifact.folder) if store.holds(artifact) else forecast.bytes
    return replace(forecast, bytes=size, shape=shape, tokens=tokens, artifact=artifact, tokenizer=tokenizer)

"""Adapters that a recipe exports alone: one that will not fit the base it is exported for is told when the recipe is
read, where the files would show it only after all the training."""

from __future__ import annotations

from collections.abc import Iterator

from llmtune.recipe.graph import known_nodes
from llmtune.recipe.recipe import Recipe
from llmtune.recipe.source import Path


def adapter_problems(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    """(path in the YAML, what is wrong) of every adapter that was not trained on the base it will be proven on."""
    nodes = {node.id: node for node in known_nodes(recipe)}
    for index, stage in enumerate(recipe.stages if nodes else ()):
        inputs = nodes[str(stage.id)].inputs
        if stage.makes_whole_model or not {"checkpoint", "base"} <= inputs.keys():
            continue
        trained, base = nodes[inputs["checkpoint"]], inputs["base"]
        began = trained.inputs.get("checkpoint", base)
        if trained.stage.makes_adapter and began != base:
            text = (
                f"format: adapter: the adapter of '{trained.id}' belongs on the weights of '{began}', not on the base "
                "model; export the merged checkpoint with format: hf, or train the adapter on the base model itself "
                f"(`from: {base}` in '{trained.id}')"
            )
            yield ("stages", index, stage.kind, "format"), text

"""Running recipes: run folder, artifact store, worker processes, resume. Light to import: each worker does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtune.artifacts import Artifact


def artifact_for(recipe_path: Path, overrides: list[str], stage_id: str, runs: Path = Path("runs")) -> Artifact:
    """The artifact of one stage of a recipe, made now (with what it needs) if the store has none. The recipe's own run
    stays as it is, and may be at work meanwhile: what is made here is told in a run folder aside."""
    from llmtune.recipe import load_recipe
    from llmtune.run.display import Display
    from llmtune.run.runner import Run, Selection

    recipe = load_recipe(recipe_path, overrides)
    execution = Run(recipe, runs, Display(), folder=runs / ".aside" / recipe.name)
    nodes = {planned.node.id: planned for planned in execution.plan()}
    artifact = nodes[stage_id].artifact
    if artifact is None:
        needed = {stage_id}
        for name in reversed(nodes):  # a stage stands behind its inputs
            needed |= set(nodes[name].node.inputs.values()) if name in needed else set()
        with execution.locked():
            execution.go(Selection(exactly=frozenset(needed)))
        artifact = execution.store.find(nodes[stage_id].fingerprint)
    assert artifact is not None, "a stage that is done has an artifact"
    return artifact

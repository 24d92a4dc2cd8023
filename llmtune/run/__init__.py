"""Running recipes: run folder, artifact store, worker processes, resume."""

from __future__ import annotations

from pathlib import Path

from llmtune.artifacts import Artifact
from llmtune.run.runner import Run, Selection

__all__ = ["Run", "Selection", "artifact_for"]


def artifact_for(recipe_path: Path, overrides: list[str], stage_id: str, runs: Path = Path("runs")) -> Artifact:
    """The artifact of one stage of a recipe, made now (with what it needs) if the store has none."""
    from llmtune.recipe import load_recipe
    from llmtune.run.display import Display

    execution = Run(load_recipe(recipe_path, overrides), runs, Display())
    with execution.locked():
        records = execution.go(Selection(last=stage_id))
        artifact = execution.store.find(records[stage_id].artifact)
    assert artifact is not None, "a stage that is done has an artifact"
    return artifact

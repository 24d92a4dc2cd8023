"""Running recipes: run folder, artifact store, worker processes, resume. Light to import: each worker does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtune.artifacts import Artifact
    from llmtune.monitor import Monitor
    from llmtune.run.display import Display

ASIDE = ".aside"  # below `runs`: what is made to look at a recipe without touching its run


def artifact_for(
    recipe_path: Path,
    overrides: list[str],
    stage_id: str,
    runs: Path = Path("runs"),
    display: Display | None = None,
) -> Artifact:
    """The artifact of one stage of a recipe, made now (with what it needs) if the store has none. The recipe's own run
    stays as it is, and may be at work meanwhile: what is made here is told in a run folder aside.

    display: shows what is made; None: nothing is shown
    """
    from llmtune.recipe import load_recipe
    from llmtune.run.display import Display
    from llmtune.run.runner import Run, Selection

    recipe = load_recipe(recipe_path, overrides)
    execution = Run(recipe, runs, display or Display(), folder=runs / ASIDE / recipe.name)
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


@contextmanager
def rows_aside(runs: Path, monitor: Monitor) -> Iterator[Path]:
    """A folder for the tokens and rows of corpora that are only looked at, kept from one look to the next; one process
    at a time has it, others wait. Raises LlmtuneError when it cannot be written."""
    from llmtune.run.folder import told_to_the_user
    from llmtune.run.lock import FileLock

    folder = runs / ASIDE / ".rows"  # no recipe's name starts with a dot
    lock = FileLock(folder / "lock")
    with told_to_the_user(folder):
        if not lock.try_acquire():
            monitor.note(f"process {lock.holder()} is making rows to look at: waiting for it")
            lock.acquire(lambda holder: True)
        try:
            yield folder
        finally:
            lock.release()

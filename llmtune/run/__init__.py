"""Running recipes: run folder, artifact store, worker processes, resume. Light to import: each worker does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.run.store import ASIDE

if TYPE_CHECKING:
    from llmtune.artifacts import Artifact
    from llmtune.monitor import Monitor
    from llmtune.run.display import Display


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
    from llmtune.run.runner import Run
    from llmtune.run.selection import Selection

    recipe = load_recipe(recipe_path, overrides)
    execution = Run(recipe, runs, display or Display(), folder=runs / ASIDE / recipe.name)
    needed = execution.plan(needed_for=stage_id)
    artifact = needed[-1].artifact  # of the stage itself, which stands behind its inputs
    if artifact is None:
        with execution.locked():
            execution.go(Selection(exactly=frozenset(planned.node.id for planned in needed)))
        artifact = execution.store.find(needed[-1].fingerprint)
    assert artifact is not None, "a stage that is done has an artifact"
    return artifact


@contextmanager
def rows_aside(runs: Path, monitor: Monitor) -> Iterator[Path | None]:
    """A folder for the tokens and rows of corpora that are only looked at, kept from one look to the next; one process
    at a time has it, others wait. None where `runs` may be read and no more: then nothing can be kept. Raises
    LlmtuneError for whatever else the system refuses, a full disk above all."""
    from llmtune.run.folder import told_to_the_user
    from llmtune.run.lock import FileLock

    place = runs / ASIDE / ".rows"  # no recipe's name starts with a dot
    lock, kept = FileLock(place / "lock"), True
    with told_to_the_user(place):
        try:
            free = lock.try_acquire()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            free, kept = True, False
            monitor.note(f"{place} cannot be written: the rows are made for this time alone")
        if not free:
            monitor.note(f"process {lock.holder()} is making rows to look at: waiting for it")
            lock.acquire(lambda holder: True)
        try:
            yield place if kept else None
        finally:
            lock.release()

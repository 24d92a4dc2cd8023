"""The run folder: one execution of a recipe, told in files.

recipe.yaml  environment.json  events.jsonl  report.html
01-corpus/stage.json  log.txt      one folder a stage; stage.json is written last, and only when it is done
previous/                          records of stages that were run again with other settings
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from llmtune.artifacts import RUN_LOCK, Artifact
from llmtune.errors import Disturbed
from llmtune.files import MAKE_ROOM, read_json, write_json
from llmtune.recipe.graph import EVALUATION
from llmtune.run.process import is_disk_full
from llmtune.run.store import PREVIOUS, store_of


@dataclass(frozen=True)
class StageRecord:
    """What a run keeps of one finished stage.

    artifact: fingerprint, by which the store finds it
    planned, actual: {"memory": bytes, "disk": bytes, "seconds": …}
    reused: the artifact was there already, made by an earlier run
    gates: one {"sentence", "ok"} for each gate that was checked
    """

    id: str
    kind: str
    artifact: str
    inputs: dict[str, str]
    metrics: dict[str, Any]
    planned: dict[str, float | None]
    actual: dict[str, float]
    reused: bool
    halvings: int
    gates: list[dict[str, Any]]


class RunFolder:
    """The files of one run; `stage_folder` numbers stages as they stand in the recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.yaml"
        self.environment = folder / "environment.json"
        self.events = folder / "events.jsonl"
        self.report = folder / "report.html"
        self.lock = folder / RUN_LOCK

    def stage_folder(self, number: int, stage_id: str) -> Path:
        """The folder of a stage's record and log; the number is the stage's place in the run."""
        return self.folder / f"{number:02d}-{stage_id}"

    def read(self, folder: Path) -> StageRecord | None:
        """The record of a stage's folder, or None when it is not done: a record of another version of llmtune that
        lacks what we need of it is none."""
        path = folder / "stage.json"
        known = {field.name for field in fields(StageRecord)}
        try:
            return StageRecord(**{name: value for name, value in read_json(path).items() if name in known})
        except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError, TypeError):
            return None

    def write(self, folder: Path, record: StageRecord) -> None:
        """Save a stage's record: from now on it is done."""
        write_json(folder / "stage.json", vars(record))

    def set_aside(self, folder: Path) -> None:
        """Move a stage's folder below `previous/`, numbered, so that nothing is overwritten."""
        previous = self.folder / PREVIOUS
        previous.mkdir(exist_ok=True)
        taken = (path.name.partition("-")[0] for path in previous.iterdir())
        number = 1 + max((int(one) for one in taken if one.isdecimal()), default=0)
        folder.rename(previous / f"{number:03d}-{folder.name}")

    def stage_folders(self) -> list[Path]:
        """The folders of all stages that were begun, in the run's order."""
        numbered = ((path.name.partition("-")[0], path) for path in self.folder.glob("[0-9]*-*") if path.is_dir())
        return [path for _, path in sorted((int(number), path) for number, path in numbered if number.isdecimal())]

    def records(self) -> list[tuple[Path, StageRecord]]:
        """The finished stages in the run's order, with their folders."""
        return [(folder, record) for folder in self.stage_folders() if (record := self.read(folder))]


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: it holds a recipe, and something has happened. A recipe's folder is none."""
    files = RunFolder(folder)
    return files.recipe.is_file() and files.events.is_file()


def artifacts_of_run(run: Path) -> list[tuple[StageRecord, Artifact | None]]:
    """The finished stages of a run and what they made, in order; None where the store was emptied since."""
    store = store_of(run)
    return [(record, store.find(record.artifact)) for _, record in RunFolder(run).records()]


def scores_by_stage(records: Iterable[StageRecord]) -> dict[str, dict[str, Any]]:
    """The scores of each evaluated model by the id of the stage that made it, in the run's order."""
    return {record.id.removesuffix(EVALUATION): record.metrics for record in records if record.kind == "evaluate"}


@contextmanager
def told_to_the_user(folder: Path) -> Iterator[None]:
    """Turns what the system refuses while a run's files are written below `folder` into an error for the user."""
    try:
        yield
    except BrokenPipeError:  # not of a file: nobody reads our output any more
        raise
    except OSError as error:
        where = str(error.filename or folder)
        if is_disk_full(error):
            raise Disturbed("no space left on the disk", where=where, fix=MAKE_ROOM) from error
        what = f"cannot be used for the run: {error.strerror or error}"
        raise Disturbed(what, where=where, fix="mend that, or choose another folder with --runs") from error

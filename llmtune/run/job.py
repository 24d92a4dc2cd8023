"""A job: all that a worker process needs to make one artifact, and what it leaves behind. Plain JSON files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmtune.files import read_json, write_json


@dataclass(frozen=True)
class Job:
    """kind and settings name the stage; inputs are folders holding an `artifact.json`, by input name.

    workshop: the folder of the store where the artifact is made (see `Workshop`).
    """

    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    seed: int
    workshop: str
    halvings: int = 0

    @property
    def places(self) -> Workshop:
        """The files of the workshop."""
        return Workshop(Path(self.workshop))

    def write(self) -> Path:
        """Save as `job.json` in the workshop; returns its path."""
        path = self.places.job
        write_json(path, asdict(self))
        return path


def read_job(path: Path) -> Job:
    """The job saved at `path`."""
    return Job(**read_json(path))


class Workshop:
    """The files of one artifact that is being made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"  # becomes the artifact
        self.work = folder / "work"  # the stage's own state, kept over a kill
        self.cache = folder.parents[1] / ".cache"  # of the store: what stages keep for later ones, a folder a kind
        self.job = folder / "job.json"
        self.events = folder / "events.jsonl"  # worker → supervisor
        self.stop = folder / "stop"  # supervisor → worker: stop at the next safe point
        self.result = folder / "result.json"  # metrics, when the stage succeeded
        self.failure = folder / "failure.json"  # the error, when it did not
        self.spent = folder / "spent.json"  # what its workers took so far: seconds, peak memory and disk in bytes
        self.lock = folder / "lock"  # held by the supervisor
        self.worker_lock = folder / "worker.lock"  # held by the worker: an orphan keeps others out until it is gone

    def launch(self, file: Path) -> Path:
        """Where the copy of a launch file is, by which the worker is started; accelerate goes by the ending."""
        return self.folder / f"launch{file.suffix}"

    def tell(self, failure: dict[str, Any]) -> None:
        """Leave an error for the supervisor. The first rank that fails is the one to tell of: the others then fail for
        want of it, which looks like a bug."""
        told = read_json(self.failure) if self.failure.exists() else None
        if told is None or (told["type"] == "Bug" and failure["type"] != "Bug"):
            write_json(self.failure, failure)

    def peak(self, rank: int) -> Path:
        """Where rank `rank` says how much memory it took."""
        return self.folder / f"peak-{rank}.json"

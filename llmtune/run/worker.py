"""The worker process: runs one stage, then ends. `python -m llmtune.run.worker JOB [--launch CONFIG]`.

With `--launch` it becomes `accelerate launch --config_file CONFIG -m llmtune.run.worker JOB`, which starts the ranks.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtune.artifacts import read_artifact
from llmtune.errors import Disturbed, LlmtuneError, Stopped
from llmtune.files import MAKE_ROOM, empty_folder, write_json
from llmtune.heap import keep_freed_memory
from llmtune.monitor import Bar, Monitor
from llmtune.run.events import append_event
from llmtune.run.job import Job, Workshop, read_job
from llmtune.run.lock import FileLock
from llmtune.run.process import (
    EXIT_FAILED,
    EXIT_OUT_OF_MEMORY,
    causes,
    die_with_parent,
    is_disk_full,
    is_out_of_memory,
    peak_memory,
    rank,
    refused,
)
from llmtune.stages import stage_class
from llmtune.stages.stage import Context

_BAR_PERIOD = 0.2  # seconds between two progress events: smooth enough, and cheap


class WorkerBar(Bar):
    """Tells the supervisor how far the job is."""

    def __init__(self, events: Path, what: str, total: float | None, unit: str, done: float) -> None:
        self._events, self._what, self._total, self._unit = events, what, total, unit
        self._done = done
        self._figures: dict[str, float | str] = {}
        self._last = 0.0
        self.tell()

    def advance(self, units: float = 1) -> None:
        self._done += units
        if time.monotonic() - self._last >= _BAR_PERIOD:
            self.tell()

    def show(self, **figures: float | str) -> None:
        self._figures |= figures

    def tell(self, over: bool = False) -> None:
        """Write a progress event now."""
        self._last = time.monotonic()
        fields = {"what": self._what, "total": self._total, "unit": self._unit, "done": self._done}
        append_event(self._events, "progress", **fields, figures=self._figures, over=over)


class WorkerMonitor(Monitor):
    """Rank 0's monitor: events go to a file that the supervisor follows; the supervisor's stop file is looked at."""

    def __init__(self, places: Workshop) -> None:
        self._places = places

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        bar = WorkerBar(self._places.events, what, total, unit, done)
        try:
            yield bar
        finally:
            bar.tell(over=True)

    def note(self, text: str) -> None:
        print(text, flush=True)
        append_event(self._places.events, "note", text=text)

    def record(self, kind: str, /, **fields: Any) -> None:
        append_event(self._places.events, kind, **fields)

    def stop_requested(self) -> bool:
        return self._places.stop.exists()


class FollowerMonitor(Monitor):
    """The monitor of ranks above 0: silent, but they are asked to stop like the first."""

    def __init__(self, places: Workshop) -> None:
        self._places = places

    def stop_requested(self) -> bool:
        return self._places.stop.exists()


def run_job(job: Job) -> int:
    """Run the stage of a job in this process; returns the exit status and leaves result.json or failure.json."""
    places = job.places
    try:
        first = rank() == 0
        lock = FileLock(places.worker_lock)
        if first:
            _lock_out_orphans(lock)
            empty_folder(places.output)
        places.work.mkdir(parents=True, exist_ok=True)
        keep_freed_memory()
        stage = stage_class(job.kind).model_validate(job.settings)
        monitor: Monitor = WorkerMonitor(places) if first else FollowerMonitor(places)
        inputs = {name: read_artifact(Path(folder)) for name, folder in job.inputs.items()}
        context = Context(places.output, places.work, job.seed, monitor, job.halvings, cache=places.cache / job.kind)
        metrics = stage.run(inputs, context)
        write_json(places.peak(rank()), {"bytes": peak_memory()})
        if first:
            write_json(places.result, {"metrics": metrics})
    except BaseException as error:
        return _tell_failure(places, error)
    return 0


def _lock_out_orphans(lock: FileLock) -> None:
    patience = time.monotonic() + 20
    if not lock.acquire(lambda holder: time.monotonic() < patience, poll=0.1):
        raise Disturbed(
            f"another worker (process {lock.holder()}) still works on this artifact",
            where=str(lock.path),
            fix=f"wait for it, or end it with: kill -9 {lock.holder()}",
        )


def _tell_failure(places: Workshop, error: BaseException) -> int:
    """Log the traceback, leave the error for the supervisor, and give the exit status."""
    status = EXIT_FAILED
    failure: dict[str, Any]
    if isinstance(error, Stopped):
        status = Stopped.exit_code
        failure = {"type": "Stopped", "what": error.what, "where": error.where, "fix": error.fix}
    elif is_out_of_memory(error):
        status = EXIT_OUT_OF_MEMORY
        failure = {"type": "OutOfMemory", "what": _first_line(error), "where": None, "fix": None}
    elif is_disk_full(error):
        name = getattr(error, "filename", None) or str(places.folder)
        failure = {"type": "Disturbed", "what": "no space left on the disk", "where": str(name), "fix": MAKE_ROOM}
    elif told := error if isinstance(error, LlmtuneError) else refused(error):
        failure = {"type": type(told).__name__, "what": told.what, "where": told.where, "fix": told.fix}
    else:
        *_, first = causes(error)  # libraries wrap what went wrong in words that hide it
        failure = {"type": "Bug", "what": f"{type(first).__name__}: {_first_line(first)}", "where": None, "fix": None}
    if status == EXIT_FAILED:
        traceback.print_exception(error)
    try:
        places.tell(failure)
    except OSError as second:  # a full disk may refuse this too; the log's last line then carries the message
        print(f"{failure['what']} ({second})", file=sys.stderr, flush=True)
    return status


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def main(arguments: list[str]) -> int:
    """Entry point of `python -m llmtune.run.worker`."""
    job_path = arguments[0]
    die_with_parent()
    if "--launch" in arguments:
        config = arguments[arguments.index("--launch") + 1]
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
        os.execv(sys.executable, [*command, "-m", "llmtune.run.worker", job_path])
    status = run_job(read_job(Path(job_path)))
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries' clean-up at exit (thread pools, process groups) can hang or abort after the work is safely done.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

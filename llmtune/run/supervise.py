"""Starts the worker of one job and watches over it until it ends: events, stop requests, memory, orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llmtune import errors
from llmtune.errors import Disturbed, LlmtuneError, OutOfMemory, Stopped
from llmtune.files import folder_bytes, read_json, write_json
from llmtune.machine import out_of_memory_kills
from llmtune.run.events import Follower
from llmtune.run.job import Job, Workshop
from llmtune.run.process import (
    EXIT_FAILED,
    EXIT_OUT_OF_MEMORY,
    SUPERVISOR,
    mark_of,
    says_out_of_memory,
    says_rank_killed,
    world_size,
)

_POLL = 0.1  # seconds between two looks at the worker
_DISK_POLL = 1.0  # and at the bytes in its folder
_SPENT_POLL = 20.0  # between two notes of what it took so far
_WORD = 1.0  # in which another rank may tell what ours failed for
_PATIENCE = 5.0  # with ranks that wait for one that failed
RANK_KILLED = "one of the processes that train together was killed from outside"


class StopSwitch:
    """Ctrl-C once (or SIGTERM): stop at the next safe point. Twice: now. Takes the signals over in a `with` block; only
    the main thread may, so a run in another thread cannot be stopped by them."""

    def __init__(self) -> None:
        self.presses = 0
        self._before: dict[signal.Signals, Any] = {}

    def press(self, *_: object) -> None:
        """Signal handler."""
        self.presses += 1

    def __enter__(self) -> Self:
        self.presses = 0
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self.press) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}


@dataclass(frozen=True)
class Outcome:
    """What a worker that succeeded left: the stage's metrics, and of all the workers that the artifact took: seconds,
    peak bytes of memory (of all ranks of one) and the most bytes that stood in its folder."""

    metrics: dict[str, Any]
    seconds: float
    memory: int
    disk: int


class _Spent:
    """What the workers of one artifact took in all, over stops and kills; kept in its workshop."""

    def __init__(self, places: Workshop) -> None:
        self._places = places
        before = read_json(places.spent) if places.spent.exists() else {}
        self._seconds_before: float = before.get("seconds", 0.0)
        self.memory: int = before.get("memory", 0)
        self.disk: int = before.get("disk", 0)
        self._began = time.monotonic()
        self._save_at = self._began + _SPENT_POLL

    @property
    def seconds(self) -> float:
        """From the start of the first worker on, without the time between two."""
        return self._seconds_before + time.monotonic() - self._began

    def look(self) -> None:
        """While the worker runs: at the disk, and now and then to file, for a kill of our own."""
        self.disk = max(self.disk, folder_bytes(self._places.folder))
        if time.monotonic() >= self._save_at:
            self.save()
            self._save_at = time.monotonic() + _SPENT_POLL

    def save(self) -> None:
        """To file, if the disk has room: what fills it is for the worker to tell."""
        with contextlib.suppress(OSError):
            write_json(self._places.spent, {"seconds": self.seconds, "memory": self.memory, "disk": self.disk})

    def end(self) -> None:
        """When the worker has ended, however it did."""
        peaks = self._places.folder.glob("peak-*.json")
        self.memory = max(self.memory, sum(read_json(path)["bytes"] for path in peaks))
        self.disk = max(self.disk, folder_bytes(self._places.folder))
        self.save()


def run_worker(
    job: Job,
    launch: Path | None,
    log: Path,
    switch: StopSwitch,
    on_event: Callable[[dict[str, Any]], None],
    call_ranks: Callable[[Path], dict[str, str]] | None = None,
) -> Outcome:
    """Run a job in a worker process of its own and return what it measured.

    launch:     an accelerate config; the worker is then started by `accelerate launch`.
    call_ranks: calls the other ranks of an outer launch to the job's file; gives the environment by which our own
                worker joins them.
    Raises OutOfMemory, Stopped, or the stage's own error.
    """
    places = job.places
    for leftover in (places.stop, places.result, places.failure, *places.folder.glob("peak-*.json")):
        leftover.unlink(missing_ok=True)
    path = job.write()
    environment = worker_environment(call_ranks(path) if call_ranks else None)
    launched = ["--launch", str(launch)] if launch else []
    several = launch is not None or call_ranks is not None
    return watch([*WORKER, str(path), *launched], environment, places, log, switch, on_event, several)


WORKER = (sys.executable, "-m", "llmtune.run.worker")


def worker_environment(ranks: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker: ours, without the ranks of an outer launch unless they are given. Python does not
    look for modules in the user's current folder, where a `datasets.py` would stand in for the library's."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES}
    environment |= ranks or {}
    supervisor = mark_of(os.getpid()) or ""
    return environment | {SUPERVISOR: supervisor, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


# What torchrun and accelerate tell the ranks they start; a serial stage's worker must not see it.
LAUNCH_VARIABLES = frozenset(
    {
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID"),
        *("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"),
    }
)


def watch(
    command: list[str],
    environment: dict[str, str],
    places: Workshop,
    log: Path,
    switch: StopSwitch,
    on_event: Callable[[dict[str, Any]], None],
    several: bool,
) -> Outcome:
    """Start `command`, follow its events, pass on stop requests, and turn its end into an Outcome or an error.

    several: the worker is one of several processes, so that what ended it may have happened to another.
    """
    kills_before = out_of_memory_kills()
    log_before = log.stat().st_size if log.exists() else 0
    events = Follower(places.events, from_end=True)
    spent = _Spent(places)
    look_again = 0.0
    outer = world_size() > 1  # else the launcher that the worker became ends the ranks that are left
    failed_at: float | None = None
    abandoned = False
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C at the terminal reaches only us; we pass it on as a stop request
        )
        try:
            while process.poll() is None:
                for event in events.poll():
                    on_event(event)
                if time.monotonic() >= look_again:
                    spent.look()
                    look_again = time.monotonic() + _DISK_POLL
                    if failed_at is None and outer and _failed_as(places) not in (None, "Stopped"):
                        failed_at = time.monotonic()
                if abandoned := failed_at is not None and time.monotonic() - failed_at > _PATIENCE:
                    break
                if switch.presses and not places.stop.exists():
                    places.stop.touch()
                if switch.presses > 1:
                    raise Stopped("stopped now; what was finished and the last checkpoint are kept")
                time.sleep(_POLL)
        finally:
            end_group(process)
            spent.end()
    for event in events.poll():
        on_event(event)
    if process.returncode == 0 and places.result.exists():
        return Outcome(read_json(places.result)["metrics"], spent.seconds, spent.memory, spent.disk)
    if outer and _failed_as(places) in (None, "Bug"):
        time.sleep(_WORD)
    status = EXIT_FAILED if abandoned else process.returncode
    killed_for_memory = out_of_memory_kills() > kills_before and (several or _killed(status))
    raise _failure(status, places, log, log_before, several, killed_for_memory)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever of the worker's process group is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _failed_as(places: Workshop) -> str | None:
    """The type of the error that a rank left."""
    return str(read_json(places.failure)["type"]) if places.failure.exists() else None


def _killed(status: int) -> bool:
    """Whether a worker ended by a signal that nothing in it sends: kill, or a machine that is shut down."""
    return status in {end for one in (signal.SIGKILL, signal.SIGTERM) for end in (-one, 128 + one)}


def _failure(
    status: int, places: Workshop, log: Path, log_before: int, several: bool, killed_for_memory: bool
) -> LlmtuneError:
    """The error that tells why a worker ended without a result. What it wrote to the log, whose size was `log_before`
    when it started, counts where it (or one of several) could not say anything else."""
    failure = read_json(places.failure) if places.failure.exists() else None
    if failure is not None and failure["type"] != "Bug":
        kind = getattr(errors, failure["type"], LlmtuneError)
        error: LlmtuneError = kind(failure["what"], where=failure["where"], fix=failure["fix"])
        return error
    aborted = (failure is None or several) and says_out_of_memory(_tail(log, log_before))
    if status == EXIT_OUT_OF_MEMORY or aborted or killed_for_memory:
        return OutOfMemory("the stage ran out of memory", where=str(log))
    if several and says_rank_killed(_tail(log, log_before)):
        return Disturbed(RANK_KILLED, fix="run the same command to go on")
    if _killed(status):
        return Disturbed("the worker process was killed from outside", fix="run the same command to go on")
    what = failure["what"] if failure else f"the worker process ended with status {status}"
    return LlmtuneError(
        f"{what} (not an error we foresaw)",
        where=str(log),
        fix="the end of that log has the traceback; please report it with the recipe",
    )


def _tail(log: Path, start: int, size: int = 8192) -> str:
    """The last bytes of a log, none of them before `start`."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - size))
        return file.read().decode(errors="replace")

"""An outer `accelerate launch`: the ranks exist before the recipe is read.

Rank 0 runs the recipe. The others wait on files in the run folder (a collective would time out during an hour of
serial work), and at each training stage every rank starts a worker process of its own, so that two training stages
never share the global state of Accelerate. On several nodes the run folder must be on a shared file system.

    ranks/here-<rank>.json   a waiting rank, with a nonce     (written again whenever rank 0 has removed it)
    ranks/post.json          what to run next, for the nonces that it names
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.machine import out_of_memory_kills
from llmtune.run.job import read_job
from llmtune.run.process import rank, world_size
from llmtune.run.supervise import RANK_KILLED, WORKER, end_group, worker_environment

_POLL = 0.2
_ARRIVAL_LIMIT = 300.0  # seconds for all ranks of a launch to come up


def rank_environment(master_port: int) -> dict[str, str]:
    """The variables by which this rank's worker meets the others, at a port of their own."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return kept | {"MASTER_PORT": str(master_port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


class Conductor:
    """Rank 0's side: calls the other ranks to a training stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "ranks"
        self._number = 0
        if world_size() > 1:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "post.json").unlink(missing_ok=True)
            for stale in self._folder.glob("here-*.json"):
                stale.unlink()

    def call(self, job: Path) -> dict[str, str]:
        """Tell all ranks to run `job`; returns the environment of rank 0's own worker."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        self._post({"job": str(job), "port": port})
        return rank_environment(port)

    def dismiss(self, status: int) -> None:
        """Let the other ranks end with our exit status. Those that cannot be told are ended by the launcher when we
        end, so that is no error to tell in place of the stage's own."""
        if world_size() > 1:
            with contextlib.suppress(OSError, LlmtuneError):
                self._post({"end": status})

    def _post(self, message: dict[str, Any]) -> None:
        self._number += 1
        write_json(self._folder / "post.json", message | {"number": self._number, "to": self._present()})

    def _present(self) -> dict[str, str]:
        others = range(1, world_size())
        limit = time.monotonic() + _ARRIVAL_LIMIT
        while not all((self._folder / f"here-{r}.json").exists() for r in others):
            if time.monotonic() > limit:
                raise CannotRunHere(
                    f"not all {world_size()} ranks of the launch came to {self._folder}",
                    fix="on several nodes, keep --runs on a file system that all of them share",
                )
            time.sleep(_POLL)
        return {str(r): read_json(self._folder / f"here-{r}.json")["nonce"] for r in others}


def follow(folder: Path) -> int:
    """The side of ranks above 0: do what rank 0 posts until it says the run is over; returns the exit status.

    How a worker of ours ends is not for us to judge: rank 0 sees its own end, and calls again or ends the run. A
    signal is not either: the workers stop at the stop file, which rank 0 writes. The launcher's SIGTERM ends the
    waiting alone, for when rank 0 is gone without a word.
    """
    board, me, nonce, done = folder / "ranks", rank(), secrets.token_hex(8), 0
    parent, ended = os.getppid(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while os.getppid() == parent and not ended.is_set():  # the launcher is alive
        here = board / f"here-{me}.json"
        if not here.exists():
            write_json(here, {"nonce": nonce})
        post = _read(board / "post.json")
        if post is not None and post["to"].get(str(me)) == nonce and post["number"] > done:
            done = post["number"]
            if "end" in post:
                return int(post["end"])
            _work(post, board)
        time.sleep(_POLL)
    return 1


def _work(post: dict[str, Any], board: Path) -> None:
    """Run our worker to its end. When that of rank 0 failed (the run ends badly, or the same job is called again), ours
    may wait for it for ever: end it. When ours was killed it could not say so: we do."""
    kills_before = out_of_memory_kills()
    environment = worker_environment(rank_environment(post["port"]))
    worker = subprocess.Popen([*WORKER, post["job"]], env=environment, start_new_session=True)
    while worker.poll() is None:
        later = _read(board / "post.json") or post
        if later["number"] > post["number"] and (later.get("end") or later.get("job") == post["job"]):
            break
        time.sleep(_POLL)
    killed = worker.returncode == -signal.SIGKILL
    end_group(worker)
    if killed:
        failure = {"type": "Disturbed", "what": RANK_KILLED, "where": None, "fix": "run the same command to go on"}
        if out_of_memory_kills() > kills_before:
            failure |= {"type": "OutOfMemory", "what": "the stage ran out of memory", "fix": None}
        read_job(Path(post["job"])).places.tell(failure)


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None

"""Run a script of `jobs/` in a process of its own, so that a crash or a hang of native code is a clear error."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.heap import return_freed_memory
from llmtune.monitor import Monitor

_JOBS = Path(__file__).parent / "jobs"
_TAIL = 1500  # characters of a failed process' last words that go into the error


class JobFailed(LlmtuneError):
    """A process of ours ended without a result."""


@contextmanager
def job_process(script: str, settings: dict[str, Any], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start `jobs/<script>.py` with settings in `folder`; it ends with the block, or with this process.

    The script runs isolated, on the CPU, and without looking for a network; what it prints goes to `folder/log.txt`.
    """
    # A model that this process is done with must not stay beside the one that the job will load.
    gc.collect()
    return_freed_memory()
    (folder / "job.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "") if script == "llama_server" else "",
    }
    command = [sys.executable, "-I", str(_JOBS / f"{script}.py"), str(folder / "job.json")]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_job(
    script: str, settings: dict[str, Any], what: str, timeout: float, monitor: Monitor | None = None
) -> dict[str, Any]:
    """Run a job to its end and return its result. what: "converting to GGUF", for messages. timeout: seconds.

    Raises JobFailed when it crashes, gives no result or takes too long; Stopped when the user asks to stop.
    """
    monitor = monitor or Monitor()
    with tempfile.TemporaryDirectory(prefix="llmtune-") as temporary:
        folder = Path(temporary)
        result = folder / "result.json"
        with job_process(script, {**settings, "result": str(result)}, folder) as process:
            wait_for(process, folder, what, timeout, monitor)
            if not result.exists():
                raise JobFailed(f"{what} ended without a result", fix=last_words(folder))
            found: dict[str, Any] = read_json(result)
            return found


def wait_for(
    process: subprocess.Popen[bytes],
    folder: Path,
    what: str,
    timeout: float,
    monitor: Monitor,
    ready: Path | None = None,
) -> None:
    """Wait until a job ends (or, with `ready`, until that file stands); raises as `run_job` does."""
    end = time.monotonic() + timeout
    while not (ready is not None and ready.exists()):
        code = process.poll()
        if code is not None:
            if code == 0 and ready is None:
                return
            raise JobFailed(f"{what} failed: its process {_ending(code)}", fix=last_words(folder))
        if time.monotonic() > end:
            process.kill()
            raise JobFailed(f"{what} took more than {timeout:.0f} seconds and was ended", fix=last_words(folder))
        monitor.safe_point()
        time.sleep(0.02)


def last_words(folder: Path) -> str:
    """The end of what a job printed."""
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
    return f"its last words were:\n{text[-_TAIL:]}" if text else "it printed nothing"


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"

"""What the operating system is asked for: die with the parent, know the ranks, tell allocation errors from others."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from llmtune import files
from llmtune.errors import Disturbed
from llmtune.machine import peak_of_helpers, peak_resident

_PR_SET_PDEATHSIG = 1
SUPERVISOR = "LLMTUNE_SUPERVISOR"  # environment variable: `mark_of` the process that watches over a worker
EXIT_FAILED, EXIT_OUT_OF_MEMORY = 1, 77  # of a worker


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux), so that no orphan goes on writing. A worker
    whose supervisor is gone already, so that the kernel would tell it nothing, exits at once."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor and mark_of(int(supervisor.split()[0])) != supervisor:
        os._exit(1)


def mark_of(process: int) -> str | None:
    """A process's id and start (in ticks since boot, Linux), which together are never given again; None when it has
    ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None if sys.platform == "linux" else str(process)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{process} {fields[19]}"


def rank() -> int:
    """This process's rank among those that train together; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_from_outside() -> bool:
    """Whether `accelerate launch` (or torchrun) started this process: by what only they set. Other variables of
    accelerate (its log level, a default precision) may come from the user's shell."""
    return "RANK" in os.environ or "ACCELERATE_DYNAMO_USE_FULLGRAPH" in os.environ


def peak_memory() -> int:
    """Largest resident set of this process or of any finished child of it so far, and of its helpers, in bytes."""
    return max(peak_resident(), peak_resident(children=True)) + peak_of_helpers()


def causes(error: BaseException, *, by_intent: bool = False) -> Iterator[BaseException]:
    """An exception and what it came from, the first cause last. by_intent: only what it says it was raised from"""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        aside = by_intent or current.__suppress_context__
        current = current.__cause__ or (None if aside else current.__context__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or what it came from, says that an allocation failed (Python, torch on CPU or GPU, the
    loader of libraries, the operating system)."""
    return any(
        isinstance(cause, MemoryError)
        or type(cause).__name__ in ("OutOfMemoryError", "OutOfMemory")
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (isinstance(cause, RuntimeError | ImportError | OSError) and says_out_of_memory(str(cause)))
        # CPython (3.11) itself, where it has no memory for the exception that it is about to raise.
        or (isinstance(cause, SystemError) and "without exception set" in str(cause))
        for cause in causes(error)
    )


# As torch, the C++ library, the loader, OpenBLAS, cuBLAS and Python put it.
_SIGNS_OUT_OF_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "std::bad_alloc", "out of memory", "failed to allocate"),
    *("failed to map segment from shared object", "can't start new thread", "Memory allocation still failed"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "MemoryError"),
)


def says_out_of_memory(text: str) -> bool:
    """Whether the text of an error or the end of a log tells of a failed allocation."""
    return any(sign in text for sign in _SIGNS_OUT_OF_MEMORY)


def says_rank_killed(text: str) -> bool:
    """Whether the end of a log is torchrun's, telling that the first rank to end was killed (SIGKILL)."""
    first = text.rpartition("Root Cause (first observed failure)")[2]
    return first != text and re.search(r"exitcode\s*: -9\b", first) is not None


def refused(error: BaseException) -> Disturbed | None:
    """`files.refusal` of an exception, or of what it was raised from by intent: what went wrong while something else
    was handled may be a bug."""
    return next(filter(None, map(files.refusal, causes(error, by_intent=True))), None)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or what it came from, says that the disk or the quota is full."""
    return any(map(files.is_disk_full, causes(error)))

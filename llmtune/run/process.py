"""What the operating system is asked for: die with the parent, know the ranks, tell allocation errors from others."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux), so that no orphan goes on writing.

    parent: the process id expected; if it is gone already, exit at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def rank() -> int:
    """This process's rank among those that train together; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def peak_memory() -> int:
    """Largest resident set of this process and of any finished child of it so far, in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return max(own, children) * unit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed (Python, torch on CPU or GPU, the operating system)."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "OutOfMemory"):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def says_out_of_memory(text: str) -> bool:
    """Whether the text of an error or the end of a log tells of a failed allocation."""
    signs = ("can't allocate memory", "Cannot allocate memory", "std::bad_alloc", "out of memory", "failed to allocate")
    return any(sign in text for sign in signs)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that the disk or the quota is full (some libraries only say it in words)."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)

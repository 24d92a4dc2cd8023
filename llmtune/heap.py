"""The C heap of a process that computes on the CPU: keep what tensors give back, rather than map it anew.

glibc maps each large tensor by itself and unmaps it when it is freed, so the kernel zeroes its pages again and again: a
sixth of a training step (benchmarks/train.py). Imports no torch.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
_NEVER = -1  # of the trim threshold


def keep_freed_memory() -> None:
    """One heap for all threads, never trimmed. Does nothing where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER)):
            mallopt(option, value)


def return_freed_memory() -> None:
    """Give what was kept back to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

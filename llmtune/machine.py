"""The machine as a plan sees it: cores, memory, disk, accelerators. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

# CPU features that make products in bf16 faster than in fp32 (the last is ARM's). Without them bf16 is computed by
# converting back and forth: right, but four to ten times slower.
_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})


@dataclass(frozen=True)
class Accelerator:
    """One GPU. memory in bytes; compute capability as (major, minor), (0, 0) when unknown."""

    name: str
    memory: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """cores usable by this process, memory in bytes that a process here may use in all, CPU feature flags, GPUs."""

    cores: int
    memory: int
    flags: frozenset[str]
    accelerators: tuple[Accelerator, ...]

    @property
    def cpu_has_bf16(self) -> bool:
        """Whether the CPU itself computes in bf16."""
        return bool(_BF16_FLAGS & self.flags)

    def disk_free(self, folder: Path) -> int:
        """Bytes free on the file system that holds `folder` (or its nearest existing parent)."""
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def this_machine() -> Machine:
    """Look at the machine; cheap (one call of nvidia-smi where there is one)."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1),
        memory=min(psutil.virtual_memory().total, _memory_limit()),
        flags=_cpu_flags(),
        accelerators=_nvidia(),
    )


def out_of_memory_kills() -> int:
    """How many processes of our cgroup (v2, or v1) the kernel's out-of-memory killer has taken so far."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            for line in Path(path).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        except OSError:
            continue
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    except OSError:
        pass
    return 0


def _memory_limit() -> int:
    """The cgroup's memory limit in bytes; a huge number where there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return 1 << 62


def _cpu_flags() -> frozenset[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def _nvidia() -> tuple[Accelerator, ...]:
    if not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in out.splitlines():
        name, memory, capability = (part.strip() for part in line.rsplit(",", 2))
        major, _, minor = capability.partition(".")
        ok = memory.isdigit() and major.isdigit() and minor.isdigit()
        if ok:
            found.append(Accelerator(name, int(memory) << 20, (int(major), int(minor))))
    return tuple(found)

"""The machine as a plan sees it: cores, memory, disk, accelerators. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmtune.errors import CannotRunHere

# CPU features that make products in bf16 faster than in fp32 (the last is ARM's). Without them bf16 is computed by
# converting back and forth, and where there is no AVX-512 either, number by number: right, but three times slower in
# training, or 24 times.
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
# Operations a second of matrix products that plans count on: of one core by number format, and of one GPU, which was
# not measured; AVX2 alone reaches six tenths. Large products alone reached 460e9 (bf16) and 106e9 (fp32) on a core with
# AVX512-BF16. Training has rates that were measured in it (training/estimate.py).
_CORE_RATE = {"bf16": 3.0e11, "fp32": 0.9e11, "fp64": 0.2e11}
_GPU_RATE = 5.0e13
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


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
        return bool(BF16_FLAGS & self.flags)

    @property
    def has_half_vectors(self) -> bool:
        """Whether this is an x86 processor without AVX-512, whose vectors are half as long, or shorter."""
        return "sse2" in self.flags and "avx512f" not in self.flags

    @property
    def computes_in_bf16(self) -> bool:
        """Whether bf16 is at least as fast as fp32 here."""
        return bool(self.accelerators) or self.cpu_has_bf16

    def rate(self, precision: Literal["bf16", "fp32"]) -> float:
        """Operations a second that a plan counts on where models run here: on a GPU, else on all cores."""
        return _GPU_RATE if self.accelerators else self.cpu_rate(precision)

    def cpu_rate(self, precision: Literal["bf16", "fp32", "fp64"]) -> float:
        """The same for products that stay on the cores, whatever else there is."""
        return self.cores * _CORE_RATE[precision] * (0.6 if self.has_half_vectors else 1.0)

    def disk_free(self, folder: Path) -> int:
        """Bytes free on the file system that holds `folder` (or its nearest existing parent)."""
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def this_machine() -> Machine:
    """Look at the machine; cheap (one call of nvidia-smi where there is one)."""
    import psutil

    return Machine(
        cores=_usable_cores(),
        memory=min(psutil.virtual_memory().total, _memory_limit()),
        flags=_cpu_flags(),
        accelerators=_nvidia(),
    )


def cpu_threads(processes: int = 1) -> int:
    """Threads for each of so many processes that compute side by side: their share of the physical cores. The
    environment variable LLMTUNE_THREADS says otherwise; raises CannotRunHere where it holds no number of threads."""
    import psutil

    asked = os.environ.get("LLMTUNE_THREADS", "").strip()
    if not asked:
        cores = _usable_cores()
        return max(1, min(psutil.cpu_count(logical=False) or cores, cores) // processes)
    if not asked.isdecimal() or int(asked) < 1:
        raise CannotRunHere(f"LLMTUNE_THREADS={asked}: expected a number of threads, 1 or more")
    return int(asked)


def out_of_memory_kills() -> int:
    """How many processes of our cgroup (v2, or v1) the kernel's out-of-memory killer has taken so far; those of the
    whole system where the cgroup does not count them."""
    counters = [group / name for group in _memory_groups() for name in ("memory.events", "memory.oom_control")]
    for path in (*counters, Path("/proc/vmstat")):
        for line in _read(path).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def peak_resident(*, children: bool = False) -> int:
    """Largest resident set of this process so far, in bytes; `children`: of any child of it that has ended."""
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes << 10  # macOS counts bytes


_helpers = 0


def count_helpers(peak: int) -> None:
    """Tell what processes that work for this one, and are no children of it, held together at most, in bytes."""
    global _helpers
    _helpers = max(_helpers, peak)


def peak_of_helpers() -> int:
    """The most that was told of them."""
    return _helpers


def high_water_mark(process: int | None = None) -> int | None:
    """Largest resident set of a running process (None: this one) so far, or since its mark was reset, in bytes; None
    where the kernel does not tell (it is not Linux, or the process has ended)."""
    for line in _read(Path(f"/proc/{process or 'self'}/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return None


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _memory_limit() -> int:
    """The tightest memory limit of our cgroup and those above it, in bytes; a huge number where there is none."""
    files = [group / name for group in _memory_groups() for name in ("memory.max", "memory.limit_in_bytes")]
    limits = [int(text) for path in files if (text := _read(path).strip()).isdigit()]
    return min(limits, default=1 << 62)


def _memory_groups() -> list[Path]:
    """Folders of the cgroups (v2, v1) that account for our memory, our own first, then those that hold it. In a
    container the path may be one of the host, of which only the last folder, the mount itself, exists."""
    found = []
    for line in _read(_OWN_CGROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        top = _CGROUPS / "memory" if controllers else _CGROUPS
        if not controllers or "memory" in controllers.split(","):
            parts = Path(path.lstrip("/")).parts
            found += [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return found


def _read(path: Path) -> str:
    """The text of one of the kernel's files, empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpu_flags() -> frozenset[str]:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def _nvidia() -> tuple[Accelerator, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves us, all where it is not set."""
    if not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found: dict[tuple[str, str], Accelerator] = {}
    for line in out.splitlines():
        index, uuid, rest = (part.strip() for part in line.split(",", 2))
        name, memory, capability = (part.strip() for part in rest.rsplit(",", 2))
        major, _, minor = capability.partition(".")
        if memory.isdigit() and major.isdigit() and minor.isdigit():
            found[index, uuid] = Accelerator(name, int(memory) << 20, (int(major), int(minor)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or "MIG-" in visible:  # parts of a GPU: nvidia-smi lists the whole ones
        return tuple(found.values())
    chosen = []
    for asked in (part.strip() for part in visible.split(",")):
        match = [gpu for (index, uuid), gpu in found.items() if asked and (asked == index or uuid.startswith(asked))]
        if not match:
            break  # as CUDA does: what follows a device that is not there is left out too
        chosen.append(match[0])
    return tuple(chosen)

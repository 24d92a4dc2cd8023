"""The machine as its files tell it: memory groups, the out-of-memory killer, the GPUs that are ours."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from llmtune import machine
from llmtune.errors import CannotRunHere


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file system of control groups, and `own` beside it: which of them are ours."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_our_own_group_counts_and_the_tightest_limit_holds(groups: Path) -> None:
    write(groups / "own", "0::/user.slice/job-7\n")
    write(groups / "cgroup/user.slice/memory.max", "2000\n")
    write(groups / "cgroup/user.slice/memory.events", "oom 9\noom_kill 9\n")
    write(groups / "cgroup/user.slice/job-7/memory.max", "max\n")
    write(groups / "cgroup/user.slice/job-7/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 1\n")
    assert machine._memory_limit() == 2000
    assert machine.out_of_memory_kills() == 3


def test_version_1_and_a_container_that_sees_only_its_mount(groups: Path) -> None:
    write(groups / "own", "4:cpu,memory:/docker/ab12\n1:name=systemd:/\n")
    write(groups / "cgroup/memory/memory.limit_in_bytes", "5000\n")
    write(groups / "cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert machine._memory_limit() == 5000
    assert machine.out_of_memory_kills() == 2


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["A", "B, big"]),
        ("1", ["B, big"]),
        ("1,0", ["B, big", "A"]),
        ("GPU-aa", ["A"]),
        ("", []),
        ("0,7,1", ["A"]),
    ],
)
def test_the_gpus_that_cuda_leaves_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-aa1, A, 81559, 9.0'\necho '1, GPU-bb2, B, big, 40960, 8.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in machine._nvidia()] == expected


def test_peaks_are_bytes_of_this_process_and_of_children_that_ended() -> None:
    code = "import time; filled = b'x' * (120 << 20); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    mark = machine.high_water_mark(child.pid)
    child.kill()
    child.communicate()
    assert machine.high_water_mark(child.pid) is None
    own, largest = machine.peak_resident(), machine.peak_resident(children=True)
    assert 120 << 20 < largest < 1 << 40
    assert 10 << 20 < own < 1 << 40
    if sys.platform == "linux":
        assert 120 << 20 < (mark or 0) <= 1.01 * largest  # the kernel counts by the way
        assert (machine.high_water_mark() or 0) == pytest.approx(own, rel=0.05)


def test_rates_by_hand() -> None:
    """Four cores: 4 × 300, 90 and 20 thousand million; a GPU has one rate, and leaves the cores theirs."""
    cores = machine.Machine(4, 1, frozenset(), ())
    gpu = dataclasses.replace(cores, accelerators=(machine.Accelerator("A", 1, (9, 0)),))
    assert (cores.rate("bf16"), cores.rate("fp32"), cores.cpu_rate("fp64")) == (1.2e12, 3.6e11, 8e10)
    assert (gpu.rate("bf16"), gpu.rate("fp32"), gpu.cpu_rate("fp32")) == (5e13, 5e13, 3.6e11)


@pytest.mark.parametrize(
    ("physical", "usable", "processes", "expected"),
    [(8, 16, 1, 8), (8, 4, 1, 4), (None, 6, 1, 6), (8, 16, 3, 2), (2, 2, 4, 1)],
)
def test_threads_are_a_share_of_the_physical_cores(
    physical: int | None, usable: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMTUNE_THREADS", raising=False)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: physical)
    monkeypatch.setattr(machine, "_usable_cores", lambda: usable)
    assert machine.cpu_threads(processes) == expected


def test_the_user_s_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTUNE_THREADS", "3")
    assert machine.cpu_threads(2) == 3
    for wrong in ("none", "0", "-1", "1.5"):
        monkeypatch.setenv("LLMTUNE_THREADS", wrong)
        with pytest.raises(CannotRunHere, match="expected a number of threads"):
            machine.cpu_threads()

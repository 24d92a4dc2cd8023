"""An outer launch: the ranks exist before the recipe is read; serial stages run once, training stages on all ranks."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.run.conftest import CommandLine

CONFIGS = Path(__file__).parents[2] / "accelerate_configs"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])


def launched(line: CommandLine) -> list[str]:
    """`llmtune run toy.yaml` on two ranks, as a user starts it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    return [*launch, "-m", "llmtune", "run", "toy.yaml"]


def start(line: CommandLine) -> subprocess.Popen[str]:
    return subprocess.Popen(
        launched(line),
        cwd=line.folder, env=line.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def record(line: CommandLine, name: str) -> dict[str, Any]:
    return dict(json.loads((line.folder / "runs/toy" / name / "stage.json").read_text()))


@pytest.mark.slow
def test_training_stages_run_on_every_rank_and_others_once(line: CommandLine) -> None:
    line.recipe("count: {upto: 4, launch: some.yaml}\ndouble: {}\ncount: {id: second, upto: 3}", head="seed: 1")
    running = start(line)
    output = running.communicate(timeout=120)[0]
    assert running.returncode == 0, output
    assert "count: `launch:` is ignored" in output
    assert [record(line, name)["metrics"]["ranks"] for name in ("01-count", "03-second")] == [2, 2]
    assert line.total("02-double") == 22
    assert "metrics" in record(line, "02-double")


@pytest.mark.slow
def test_a_rank_that_ran_out_of_memory_is_called_again_with_the_others(line: CommandLine) -> None:
    line.recipe("count: {upto: 4, trouble: rank}")
    running = start(line)
    output = running.communicate(timeout=120)[0]
    assert running.returncode == 0, output
    assert "out of memory: starting again with 1/2" in output, "not: connection closed by peer"
    assert record(line, "01-count")["metrics"]["ranks"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("outer", [True, False], ids=["outer launch", "launch file"])
def test_the_death_of_one_rank_ends_the_others_and_is_told(line: CommandLine, outer: bool) -> None:
    """Rank 0 waits for ever for one that was killed, as it would in a sum over shared memory."""
    line.recipe(f"count: {{upto: 4, trouble: killed_rank, launch: {CONFIGS / 'fsdp2-cpu.yaml'}}}", head="seed: 1")
    running = start(line) if outer else line.start("run", "toy.yaml")
    output = running.communicate(timeout=90)[0]
    assert running.returncode == 1, output
    assert "one of the processes that train together was killed from outside" in output
    assert "run the same command to go on" in output
    running = start(line) if outer else line.start("run", "toy.yaml")
    output = running.communicate(timeout=90)[0]
    assert running.returncode == 0, output
    assert line.total("01-count") == 11
    assert record(line, "01-count")["metrics"]["ranks"] == 2


@pytest.mark.slow
def test_several_machines_by_the_shipped_file(line: CommandLine) -> None:
    """Two on one: a launcher each, that meet at an address."""
    line.recipe("count: {upto: 4}\ndouble: {}", head="seed: 1")
    meeting = ["--main_process_ip", "127.0.0.1", "--main_process_port", free_port(), "--num_processes", "2"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "multi-node.yaml")]
    machines = [
        subprocess.Popen(
            [*launch, *meeting, "--machine_rank", str(rank), "-m", "llmtune", "run", "toy.yaml"],
            cwd=line.folder, env=line.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    output = "".join(machine.communicate(timeout=120)[0] for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], output
    assert record(line, "01-count")["metrics"]["ranks"] == 2
    assert line.total("02-double") == 22


@pytest.mark.slow
def test_ctrl_c_stops_all_ranks_at_a_safe_point_and_kill_leaves_none_of_them(line: CommandLine) -> None:
    line.recipe("count: {upto: 60, seconds_each: 0.1}")
    running = start(line)
    line.wait_for(line.states, seconds=60)
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=60)[0]
    assert "run the same command to go on" in output
    events = [json.loads(text) for text in (line.folder / "runs/toy/events.jsonl").read_text().splitlines()]
    assert (events[-1]["event"], events[-1]["status"]) == ("end", "Stopped")

    stopped = line.states()[0].read_text()
    running = start(line)
    line.wait_for(lambda: line.states()[0].read_text() not in ("", stopped), seconds=60)
    family = psutil.Process(running.pid).children(recursive=True)
    assert len(family) >= 3, "two ranks, and a worker"
    running.kill()
    running.communicate(timeout=20)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive

    running = start(line)
    output = running.communicate(timeout=120)[0]
    assert running.returncode == 0, output
    assert line.total("01-count") == 1830

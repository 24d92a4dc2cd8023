"""Running recipes from the command line: done is done, and no crash, stop or mistake loses anything."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.run.conftest import CommandLine

pytestmark = pytest.mark.slow


def test_stages_run_in_order_and_a_second_run_only_looks(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {times: 2}", head="seed: 7")
    first = line.run("run", "toy.yaml")
    assert first.returncode == 0, first.stdout + first.stderr
    assert line.total("02-double") == (7 + 10) * 4
    second = line.run("run", "toy.yaml")
    assert second.returncode == 0
    assert second.stdout.count("done before") == 3
    assert (line.folder / "runs/toy/report.html").is_file()


def test_a_changed_stage_runs_again_with_what_depends_on_it_and_the_old_record_is_set_aside(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {times: 1}")
    assert line.run("run", "toy.yaml").returncode == 0
    changed = line.run("run", "toy.yaml", "double.times=3")
    assert changed.returncode == 0
    assert "count done before" in changed.stdout
    assert line.total("02-double") == 80
    assert (line.folder / "runs/toy/previous/001-02-double/stage.json").is_file()
    back = line.run("run", "toy.yaml")
    assert "found in the store" in back.stdout


def test_artifacts_are_shared_by_sibling_recipes(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    line.recipe("count: {upto: 4}\ndouble: {}", name="sibling")
    assert line.run("run", "toy.yaml").returncode == 0
    assert "count found in the store" in line.run("run", "sibling.yaml").stdout


@pytest.mark.parametrize("victim", ["supervisor", "worker"])
def test_sigkill_then_the_same_command_gives_the_same_result(line: CommandLine, victim: str) -> None:
    line.recipe("count: {upto: 30, seconds_each: 0.05}\ndouble: {}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    job = line.states()[0].parent.parent
    worker = int((job / "worker.lock").read_text())
    os.kill(running.pid if victim == "supervisor" else worker, signal.SIGKILL)
    output = running.communicate(timeout=30)[0]
    if victim == "supervisor":
        line.wait_for(lambda: not _alive(worker), seconds=5)
        before = line.states()[0].read_text()
        time.sleep(0.3)
        assert line.states()[0].read_text() == before, "an orphan goes on writing"
    else:
        assert running.returncode == 1
        assert "killed from outside" in output
    resumed = line.run("run", "toy.yaml")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    record = json.loads((line.folder / "runs/toy/01-count/stage.json").read_text())
    assert record["metrics"]["starts"] == 2, "it went on, and did not start over"
    assert line.total("02-double") == 2 * 465


def test_ctrl_c_once_stops_at_a_safe_point_and_says_how_to_go_on(line: CommandLine) -> None:
    line.recipe("count: {upto: 40, seconds_each: 0.05}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=20)[0]
    assert running.returncode == 130
    assert "run the same command to go on" in output
    assert "Traceback" not in output
    assert line.run("run", "toy.yaml").returncode == 0
    assert line.total("01-count") == 820
    record = json.loads((line.folder / "runs/toy/01-count/stage.json").read_text())
    assert record["actual"]["seconds"] > 40 * 0.05, "the time of both workers"


def test_again_does_not_go_on_with_what_was_interrupted(line: CommandLine) -> None:
    line.recipe("count: {upto: 40, seconds_each: 0.05}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert line.run("run", "toy.yaml", "--again").returncode == 0
    record = json.loads((line.folder / "runs/toy/01-count/stage.json").read_text())
    assert record["metrics"]["starts"] == 1


def test_ctrl_c_twice_stops_now(line: CommandLine) -> None:
    line.recipe("count: {upto: 3, seconds_each: 20}")
    running = line.start("run", "toy.yaml")
    line.wait_for(lambda: list(line.folder.glob("runs/.artifacts/.work/*/work/starts")))
    for _ in range(2):
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
    running.communicate(timeout=5)
    assert running.returncode == 130


def test_a_second_run_in_the_same_folder_is_refused(line: CommandLine) -> None:
    line.recipe("count: {upto: 40, seconds_each: 0.05}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    second = line.run("run", "toy.yaml")
    assert second.returncode == 1
    assert f"in use by process {running.pid}" in second.stderr
    assert running.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("error", "three is one too many"),
        ("bug", "ZeroDivisionError: not foreseen"),
        ("disk", "no space left on the disk"),
        ("kill", "killed from outside"),
    ],
)
def test_trouble_in_a_stage_is_one_message_and_earlier_stages_stay_done(
    line: CommandLine, trouble: str, expected: str
) -> None:
    line.recipe(f"count: {{upto: 2}}\ncount: {{id: late, upto: 5, trouble: {trouble}}}")
    failed = line.run("run", "toy.yaml")
    assert failed.returncode == 1
    assert expected in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    assert line.total("01-count") == 3
    mended = line.run("run", "toy.yaml", "late.trouble=null")
    assert mended.returncode == 0
    assert "count done before" in mended.stdout
    assert line.total("02-late") == 15


def test_out_of_memory_is_answered_with_smaller_micro_batches(line: CommandLine) -> None:
    line.recipe("count: {upto: 5, trouble: memory, micro_batch: 4}")
    result = line.run("run", "toy.yaml")
    assert result.returncode == 0, result.stderr
    assert "out of memory" in result.stdout
    record = json.loads((line.folder / "runs/toy/01-count/stage.json").read_text())
    assert record["halvings"] == 2
    assert record["metrics"]["halvings"] == 2


def test_only_from_and_until_choose_stages(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {}\ndouble: {id: again}")
    assert line.run("run", "toy.yaml", "--until", "count").returncode == 0
    missing = line.run("run", "toy.yaml", "--only", "again")
    assert missing.returncode == 1
    assert "needs 'double', which is not done" in missing.stderr
    assert line.run("run", "toy.yaml", "--only", "double").returncode == 0
    assert line.run("run", "toy.yaml", "--from", "again").returncode == 0
    assert line.total("03-again") == 40
    unknown = line.run("run", "toy.yaml", "--until", "cuont")
    assert unknown.returncode == 2
    assert "no stage has the id 'cuont'" in unknown.stderr


def test_again_makes_a_finished_stage_anew_and_keeps_the_old_one(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    assert line.run("run", "toy.yaml").returncode == 0
    anew = line.run("run", "toy.yaml", "--only", "count", "--again")
    assert anew.returncode == 0
    assert "done before" not in anew.stdout
    assert list((line.folder / "runs/.artifacts/.replaced").iterdir())


def test_an_artifact_that_lost_bytes_is_refused_by_name(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    assert line.run("run", "toy.yaml").returncode == 0
    total = next(line.folder.glob("runs/.artifacts/*/total.txt"))
    total.write_text("")
    result = line.run("run", "toy.yaml")
    assert result.returncode == 1
    assert "total.txt has 0 bytes, but 3 bytes were written" in result.stderr


def test_what_cannot_work_here_is_said_by_plan_and_refused_by_run(line: CommandLine) -> None:
    line.recipe("count: {upto: 2}\ncount: {id: far, upto: 2000000}")
    planned = line.run("plan", "toy.yaml")
    assert planned.returncode == 1
    assert "counting above a million is not possible here" in planned.stdout
    refused = line.run("run", "toy.yaml")
    assert refused.returncode == 1
    assert "counting above a million" in refused.stderr
    assert not (line.folder / "runs/toy/01-count").exists(), "nothing is begun that cannot be ended"


def test_runs_lists_states(line: CommandLine) -> None:
    line.recipe("count: {upto: 2}")
    line.recipe("count: {upto: 4, trouble: error}", name="broken")
    line.run("run", "toy.yaml")
    line.run("run", "broken.yaml")
    listed = line.run("runs").stdout
    assert "done" in listed
    assert "failed (LlmtuneError)" in listed


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True

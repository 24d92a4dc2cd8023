"""What goes wrong around a run, rather than in a stage: disks, memory, other people's files, old records."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from llmtune.artifacts import LOCATION, Artifact
from llmtune.files import read_json, write_json
from llmtune.run.folder import RunFolder
from llmtune.run.job import Workshop
from llmtune.run.lock import FileLock
from llmtune.run.process import is_disk_full, is_out_of_memory, launched_from_outside, mark_of, refused
from llmtune.run.store import Store
from llmtune.run.supervise import StopSwitch, _failure
from llmtune.run.worker import _tell_failure
from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents


def test_a_full_disk_under_the_run_folder_is_an_error_for_the_user(line: CommandLine) -> None:
    line.recipe("count: {}")
    (line.folder / "runs/toy").mkdir(parents=True)
    (line.folder / "runs/toy/events.jsonl").symlink_to("/dev/full")
    full = line.run("run", "toy.yaml")
    assert full.returncode == 1
    assert "no space left on the disk" in full.stderr
    assert "make room, then run the same command" in full.stderr


def test_runs_that_is_a_file_is_an_error_for_the_user(line: CommandLine) -> None:
    line.recipe("count: {}")
    (line.folder / "taken").write_text("")
    wrong = line.run("run", "toy.yaml", "--runs", "taken")
    assert wrong.returncode == 1
    assert "taken" in wrong.stderr
    assert "choose another folder with --runs" in wrong.stderr


def test_a_disk_that_fills_up_does_not_hide_the_error_of_the_stage(line: CommandLine) -> None:
    line.recipe("count: {upto: 5, seconds_each: 0.2, trouble: error}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    events = line.folder / "runs/toy/events.jsonl"
    events.unlink()
    events.symlink_to("/dev/full")
    output = running.communicate(timeout=30)[0]
    assert running.returncode == 1
    assert "three is one too many" in output


@pytest.mark.parametrize("command", ["plan", "run"])
def test_square_brackets_are_text(line: CommandLine, command: str) -> None:
    line.recipe("count: {note: 'a[/b].txt needs llmtune[gguf]'}")
    told = line.run(command, "toy.yaml")
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("a[/b].txt needs llmtune[gguf]") == (1 if command == "plan" else 2)


def test_modules_in_the_current_folder_do_not_stand_in_for_libraries(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    for name in ("psutil", "datasets", "numpy"):
        (line.folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = Path(sys.executable).with_name("llmtune")  # which, unlike `python -m`, does not look there
    done = subprocess.run(
        [script, "run", "toy.yaml"], cwd=line.folder, env=line.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_log_begins_with_what_the_stage_says(line: CommandLine) -> None:
    line.recipe("count: {note: hello}")
    assert line.run("run", "toy.yaml").returncode == 0
    assert (line.folder / "runs/toy/01-count/log.txt").read_text() == "hello\n"


def test_records_that_no_longer_belong_to_the_recipe_are_set_aside(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {}\ndouble: {id: last}")
    assert line.run("run", "toy.yaml").returncode == 0
    line.recipe("count: {upto: 4}\ndouble: {times: 2}")
    changed = line.run("run", "toy.yaml", "--until", "count")
    assert changed.returncode == 0, changed.stderr
    assert [record.id for _, record in RunFolder(line.folder / "runs/toy").records()] == ["base", "count"]
    aside = sorted(path.name for path in (line.folder / "runs/toy/previous").iterdir())
    assert aside == ["001-02-double", "002-03-last"]


def test_records_of_another_version_are_read_or_made_anew(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {}")
    assert line.run("run", "toy.yaml").returncode == 0
    newer, older = (line.folder / "runs/toy" / name / "stage.json" for name in ("01-count", "02-double"))
    write_json(newer, read_json(newer) | {"colour": "blue"})
    write_json(older, {"id": "double"})
    assert line.run("runs").returncode == 0
    again = line.run("run", "toy.yaml")
    assert again.returncode == 0, again.stderr
    assert "count done before" in again.stdout
    assert "double found in the store" in again.stdout


def test_a_fault_in_the_report_is_not_the_end_of_the_run(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    assert line.run("run", "toy.yaml").returncode == 0
    record = line.folder / "runs/toy/01-count/stage.json"
    write_json(record, read_json(record) | {"actual": "no table"})
    again = line.run("run", "toy.yaml")
    assert again.returncode == 0, again.stderr
    assert "no report was written" in again.stdout


def test_what_a_kill_left_of_a_finished_artifact_is_dropped(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}")
    assert line.run("run", "toy.yaml").returncode == 0
    record = read_json(line.folder / "runs/toy/01-count/stage.json")
    for again in ([], ["--only", "count", "--again"]):
        work = line.folder / "runs/.artifacts/.work" / record["artifact"] / "work"
        work.mkdir(parents=True)
        (work / "state").write_text("4 999")
        (line.folder / "runs/toy/01-count/stage.json").unlink(missing_ok=True)
        assert line.run("run", "toy.yaml", *again).returncode == 0
        assert not work.exists()
        assert line.total("01-count") == 10, "made from the beginning"


def test_choices_that_contradict_each_other_are_refused(line: CommandLine) -> None:
    line.recipe("count: {}\ndouble: {}")
    for choice, told in [
        (["--from", "double", "--until", "count"], "--until count comes before --from double"),
        (["--only", "count", "--until", "double"], "--only is one stage"),
    ]:
        refused = line.run("run", "toy.yaml", *choice)
        assert refused.returncode == 2
        assert told in refused.stderr


def test_a_micro_batch_of_one_is_not_promised_to_be_halved(line: CommandLine) -> None:
    line.recipe("count: {upto: 5, trouble: hopeless, micro_batch: 2}")
    failed = line.run("run", "toy.yaml")
    assert failed.returncode == 1
    assert failed.stdout.count("starting again") == 1
    assert "even with the smallest micro-batch" in failed.stderr


def test_runs_only_looks(line: CommandLine) -> None:
    line.recipe("count: {}")
    assert line.run("run", "toy.yaml").returncode == 0
    lock = line.folder / "runs/toy/lock"
    held = FileLock(lock)
    assert held.try_acquire()
    assert "running" in line.run("runs").stdout
    held.release()
    lock.unlink()
    assert "done" in line.run("runs").stdout
    assert not lock.exists()


def test_an_artifact_for_somebody_else_leaves_the_run_as_it_is(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmtune import stages
    from llmtune.run import artifact_for
    from tests.run.toy.toy_stages import CountStage, DoubleStage

    monkeypatch.setattr(stages, "stage_kinds", lambda: {"count": CountStage, "double": DoubleStage})
    monkeypatch.setenv("PYTHONPATH", line.environment["PYTHONPATH"])
    line.recipe("count: {upto: 4}\ncount: {id: other}\ndouble: {from: count}")
    assert line.run("run", "toy.yaml", "--until", "count").returncode == 0
    run = line.folder / "runs/toy"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    recipe, runs = line.folder / "toy.yaml", line.folder / "runs"
    other = read_json(run / "00-base/stage.json")["artifact"]
    (runs / ".artifacts" / other / "artifact.json").rename(line.folder / "damaged")  # nothing that is asked for
    assert (artifact_for(recipe, [], "count", runs).folder / "total.txt").read_text() == "10\n"
    assert not (runs / ".aside").exists(), "nothing had to be made"
    (line.folder / "damaged").rename(runs / ".artifacts" / other / "artifact.json")
    changed = artifact_for(recipe, ["count.upto=5"], "double", runs)
    assert (changed.folder / "total.txt").read_text() == "30\n"
    made = [record.id for _, record in RunFolder(runs / ".aside/toy").records()]
    assert made == ["count", "double"], "what it needs, and nothing else"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_switch_gives_the_signals_back_and_leaves_other_threads_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSwitch() as switch:
        signal.raise_signal(signal.SIGINT)
        assert switch.presses == 1
    assert signal.getsignal(signal.SIGINT) is before
    went: list[bool] = []

    def elsewhere() -> None:
        with StopSwitch():
            went.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert went == [True]


def test_the_first_rank_that_fails_is_told_of_but_not_for_a_bug(tmp_path: Path) -> None:
    places = Workshop(tmp_path)
    _tell_failure(places, RuntimeError("connection closed by peer"))
    assert read_json(places.failure)["type"] == "Bug"
    places.failure.unlink()
    closed = PermissionError(13, "Permission denied", "/closed/page.md")
    closed.__context__ = FileNotFoundError(2, "No such file or directory", "/closed/page.md")
    told = RuntimeError("a library cannot read")
    told.__cause__ = closed
    _tell_failure(places, told)
    failure = read_json(places.failure)
    assert (failure["type"], failure["where"], failure["what"]) == ("Disturbed", "/closed/page.md", "Permission denied")
    places.failure.unlink()
    itself = ValueError("x")
    itself.__cause__ = itself  # `raise error from error`
    assert refused(itself) is None
    ours = KeyError("ours")
    ours.__context__ = closed
    _tell_failure(places, ours)
    assert read_json(places.failure)["type"] == "Bug"
    places.failure.unlink()
    _tell_failure(places, MemoryError())
    _tell_failure(places, RuntimeError("connection closed by peer"))
    _tell_failure(places, OSError(28, "No space left on device", "there"))
    assert read_json(places.failure)["type"] == "OutOfMemory"


def wrapped(cause: Exception) -> Exception:
    """As transformers tells a failed import."""
    try:
        try:
            raise cause
        except Exception as error:
            raise ModuleNotFoundError("Could not import module 'X'. Are its requirements defined?") from error
    except ModuleNotFoundError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (ImportError("libtorch.so: failed to map segment from shared object"), True),
        (OSError("libgomp.so.1: failed to map segment from shared object"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (wrapped(MemoryError()), True),
        (SystemError("error return without exception set"), True),
        (SystemError("bad argument to internal function"), False),
        (wrapped(ImportError("cannot import name 'y'")), False),
        (ValueError("out of memory of a poet"), False),
    ],
)
def test_signs_of_a_failed_allocation(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_signs_of_a_full_disk() -> None:
    """numpy gives neither number nor words of the system's."""
    with pytest.raises(OSError) as short:
        np.arange(1_000_000).tofile("/dev/full")
    assert is_disk_full(short.value)
    assert is_disk_full(wrapped(short.value))
    assert not is_disk_full(OSError("we cannot load the tokenizer"))


@pytest.mark.parametrize(
    ("status", "log", "killed_for_memory", "expected"),
    [
        (1, "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", False, "OutOfMemory"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", False, "OutOfMemory"),
        (-9, "", True, "OutOfMemory"),
        (-9, "", False, "Disturbed"),
        (-15, "", False, "Disturbed"),
        (1, "nothing", False, "LlmtuneError"),
    ],
)
def test_how_the_end_of_a_worker_is_read(
    tmp_path: Path, status: int, log: str, killed_for_memory: bool, expected: str
) -> None:
    path, old = tmp_path / "log.txt", "out of memory, the last time\n"
    path.write_text(old + log)
    error = _failure(status, Workshop(tmp_path), path, len(old), several=False, killed_for_memory=killed_for_memory)
    assert type(error).__name__ == expected


@pytest.mark.parametrize(("name", "expected"), [("ACCELERATE_LOG_LEVEL", False), ("RANK", True)])
def test_a_launch_is_known_by_what_only_a_launcher_sets(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: bool
) -> None:
    for known in ("RANK", "ACCELERATE_DYNAMO_USE_FULLGRAPH"):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, "1")
    assert launched_from_outside() is expected


def test_a_worker_whose_supervisor_is_gone_does_nothing(line: CommandLine) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = mark_of(gone.pid)
    assert mark is not None
    gone.communicate(b"\n")
    assert mark_of(gone.pid) is None
    job = line.folder / "job.json"
    job.write_text(json.dumps({"kind": "count", "settings": {}, "inputs": {}, "seed": 0, "workshop": str(line.folder)}))
    for supervisor, expected in [(mark, 1), (mark_of(os.getpid()), 0)]:
        environment = line.environment | {"LLMTUNE_SUPERVISOR": str(supervisor)}
        worker = [sys.executable, "-m", "llmtune.run.worker", str(job)]
        assert subprocess.run(worker, env=environment).returncode == expected
        assert (line.folder / "result.json").exists() is (expected == 0)


def test_more_than_a_hundred_stages_stand_in_their_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    made = [run.stage_folder(number, "a") for number in (0, 9, 99, 100, 101)]
    for folder in reversed(made):
        folder.mkdir()
    (tmp_path / "previous").mkdir()
    (tmp_path / "1-file").touch()
    assert run.stage_folders() == made


def test_documents_that_change_while_the_run_goes_on_are_not_taken_for_those_planned(line: CommandLine) -> None:
    docs = line.folder / "docs"
    docs.mkdir()
    for name in "abc":
        (docs / f"{name}.txt").write_text(f"{name}: the planner estimates the cost of each path and keeps one.")
    corpus = "corpus: {sources: [{path: docs}], near_duplicates: null, min_characters: 9}"
    line.recipe(f"count: {{upto: 8, seconds_each: 0.2}}\n{corpus}")
    running = line.start("run", "toy.yaml")
    line.wait_for(line.states)
    (docs / "c.txt").write_text("Another text, which nobody planned for, stands in this file now.")
    output = running.communicate()[0]
    assert running.returncode == 1
    assert "the files that stage 'corpus' reads changed after this run was planned" in output
    again = line.run("run", "toy.yaml")
    assert again.returncode == 0, again.stderr
    assert "▶ count" not in again.stdout


def test_a_source_may_hold_the_runs(line: CommandLine) -> None:
    """As where it is the folder of the recipe; what runs write there is none of its documents."""
    write_documents(line.folder / "docs")
    line.recipe('corpus: {sources: [{path: "."}], near_duplicates: null}')
    for said in ("✓ corpus", "✓ corpus done before"):
        done = line.run("run", "toy.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout


def test_names_of_documents_do_not_travel_with_what_is_made_of_them(line: CommandLine) -> None:
    docs = line.folder / "docs"
    docs.mkdir()
    for number in range(3):
        (docs / f"secret{number}.txt").write_text(
            f"{number}: the planner estimates the cost of each path and keeps one."
        )
    line.recipe("corpus: {sources: [{path: docs}], near_duplicates: null, min_characters: 9}")
    assert line.run("run", "toy.yaml").returncode == 0
    described = [path.read_text() for path in line.folder.glob("runs/.artifacts/*/artifact.json")]
    assert len(described) == 2
    assert not any("secret" in text for text in described)


def test_what_a_library_writes_for_its_user_alone_can_be_read_by_those_who_share_the_store(tmp_path: Path) -> None:
    output = tmp_path / "output"
    for name, mode in (("model.safetensors", 0o600), ("run.sh", 0o744)):
        write_json(output / name, {})
        (output / name).chmod(mode)
    before = os.umask(0o027)
    try:
        made = Store(tmp_path / "store").publish(Artifact("checkpoint", output, "f", "train", "train"), output, {})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.folder.iterdir()}
    assert modes == {"artifact.json": 0o640, "model.safetensors": 0o640, "run.sh": 0o744}


def test_a_base_is_found_anew_when_another_model_stands_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")

    def publish(folder: Path) -> None:
        output = tmp_path / "output"
        write_json(output / LOCATION, {"location": str(folder)})
        store.publish(Artifact("checkpoint", output, "f", "base", "model"), output, {})

    for name in ("one", "two"):
        write_json(tmp_path / name / "config.json", {})
    publish(tmp_path / "one")
    found = store.find("f")
    assert found is not None
    assert found.folder == tmp_path / "one"
    write_json(tmp_path / "one" / "runs" / "events.json", {})
    (tmp_path / "one" / "nohup.out").write_text("a run in the model's own folder")
    assert store.find("f") is not None
    write_json(tmp_path / "one" / "config.json", {"other": "model"})

    def refused(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as guest:  # in somebody else's store, which one may only look at
        for name in ("unlink", "rmdir"):
            guest.setattr(os, name, refused)
        assert store.find("f") is None
        assert store.place("f").exists()
    assert store.find("f") is None
    assert not store.place("f").exists()
    publish(tmp_path / "two")
    shutil.rmtree(tmp_path / "two")
    assert store.find("f") is None


def test_what_is_set_aside_never_meets_what_was(tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")

    def set_aside() -> None:
        (tmp_path / "run" / "01-train").mkdir(parents=True)
        files.set_aside(tmp_path / "run" / "01-train")

    set_aside()
    set_aside()
    (tmp_path / "run/previous/001-01-train").rmdir()
    set_aside()
    assert sorted(path.name for path in (tmp_path / "run/previous").iterdir()) == ["002-01-train", "003-01-train"]

"""Portions on several workers: the same corpus to the byte as in one process, and no way to lose anything."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmtune.corpus import portions
from llmtune.corpus.engine import NativeEngine
from llmtune.corpus.portions import portions_of
from llmtune.corpus.readers import jsonl
from llmtune.corpus.sources import FileOf
from llmtune.errors import Disturbed, LlmtuneError, Stopped
from llmtune.files import files_below
from llmtune.machine import peak_of_helpers
from llmtune.monitor import Bar, Monitor

from .conftest import Build, changed, random_text

FOOTER = "All rights are reserved by Acme and its licensors, page after page of it."


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    """A folder of sixty pages with a footer, broken words, an address each, copies, and a few that cannot be read."""
    random_ = random.Random(5)
    folder = tmp_path / "manual"
    folder.mkdir()
    for number in range(60):
        body = random_text(80, random_)
        (folder / f"{number:02d}.txt").write_text(
            f"{body}\nconfig-\nuration of it, by a.b{number}@acme-werke.de\n\nconfiguration\n\n{FOOTER}\n"
        )
        if number % 10 == 0:
            (folder / f"{number:02d}-copy.txt").write_text(changed(body, 0.03, random_))
            (folder / f"{number:02d}-cut.txt").write_bytes(b"\x00\x01\x02")
    return folder


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "_FILES", 7)


def assert_same(one: Path, other: Path) -> None:
    names = [path.relative_to(one) for path in files_below(one)]
    assert names == [path.relative_to(other) for path in files_below(other)]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_where_portions_end_does_not_change_the_documents(
    build: Build, manual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build([{"path": manual}])
    monkeypatch.setattr(portions, "_FILES", 7)
    cut = build([{"path": manual}])
    assert whole.documents == cut.documents
    assert (
        sum(FOOTER in (document.text or "") for document in cut.documents) == 1
    )  # of all portions, the first keeps it
    assert whole.metrics == cut.metrics
    assert whole.metrics["cleaned"]["hyphens"]["documents"] == 60


def test_portions_come_to_the_same_files_again_behind_some_that_were_added() -> None:
    def ends(names: list[str]) -> set[str]:
        files = [FileOf(Path(name), name, "text", 50_000) for name in names]
        found = portions_of(files)
        assert [file for portion in found for file in portion] == files
        assert all(sum(file.bytes for file in portion) <= 4_050_000 for portion in found)
        return {portion[-1].name for portion in found}

    names = [f"{number:05d}.txt" for number in range(4000)]
    before, after = ends(names), ends(sorted([*names, "00100-a.txt", "00100-b.txt", "02000-a.txt"]))
    assert len(before) > 50
    assert len(after - before) < 6


def records(count: int, random_: random.Random) -> list[bytes]:
    """Lines of JSON, some with the footer, one a copy of the last but three."""
    lines: list[bytes] = []
    for number in range(count):
        text = random_text(30, random_) + (f"\n\n{FOOTER}" if number % 3 else "")
        lines.append(lines[-3] if number % 17 == 5 else json.dumps({"text": text, "number": number}).encode())
    return lines


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of large files of records with all that can stand in them, beside a small one."""
    monkeypatch.setattr(jsonl, "_LONGEST", 20_000)
    random_ = random.Random(8)
    folder = tmp_path / "tables"
    folder.mkdir()
    lines = records(150, random_)
    lines[10:10] = [b'{"text": "short"}']
    lines[20:20] = [b"", b"  ", b"{bad", b'{"text": "caf\xe9"}', b"[1]"]
    lines[60] = json.dumps({"text": random_text(2000, random_)}).encode()  # longer than several pieces
    lines[90] = json.dumps({"text": random_text(8000, random_)}).encode()  # longer than what is read of a line
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    (folder / "b.jsonl").write_bytes(b"\r\n".join(records(60, random_)) + b"\r\n\n\n")
    (folder / "c.json").write_text(json.dumps([json.loads(line) for line in records(60, random_)], indent=1))
    (folder / "d.jsonl").write_bytes(
        "\n".join('{"text": "as many words as that"}' for _ in range(400)).encode("utf-16")
    )
    (folder / "e.txt").write_text(random_text(60, random_))
    table = pa.Table.from_pylist([json.loads(line) for line in records(200, random_)])
    pq.write_table(table, folder / "f.parquet", row_group_size=7)
    return folder


class Moves(Monitor, Bar):
    """Notes the totals of bars, and each of their moves."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.moves: dict[str, list[float]] = {}

    @contextmanager
    def bar(self, what: str, total: float | None = None, unit: str = "", done: float = 0) -> Iterator[Bar]:
        self.totals[what] = total or 0
        self.last = self.moves[what] = []
        yield self

    def advance(self, units: float = 1) -> None:
        self.last.append(units)


def test_large_files_in_pieces_make_the_same_bytes(
    build: Build, tables: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"workers": 1, "min_characters": 20, "near_duplicates": 0.8}
    before, after = Moves(), Moves()
    whole = build([{"path": tables}], monitor=before, **settings)
    request.getfixturevalue("small_pieces")
    read: list[FileOf] = []
    really = portions.raw_documents
    monkeypatch.setattr(portions, "raw_documents", lambda file, source: read.append(file) or really(file, source))
    cut = build([{"path": tables}], monitor=after, **settings)
    assert_same(whole.folder, cut.folder)
    assert {"too large", "malformed record", "wrong encoding", "too short"} <= set(cut.metrics["dropped"])
    pieces_of = {name: sum(file.name == name for file in read) for name in sorted(os.listdir(tables))}
    assert min(pieces_of[name] for name in ("a.jsonl", "b.jsonl", "f.parquet")) > 3
    assert [pieces_of[name] for name in ("c.json", "d.jsonl", "e.txt")] == [1, 1, 1]
    for what in ("reading", "cleaning"):
        assert len(before.moves[what]) == 1
        assert len(after.moves[what]) > 20
        assert sum(after.moves[what]) == pytest.approx(after.totals[what])


@pytest.mark.slow
@pytest.mark.usefixtures("small_portions")
def test_workers_make_the_same_bytes(build: Build, manual: Path) -> None:
    filters = {
        "length": {"max_words": 10_000}, "quality": {"min_stop_words": None, "max_word_length": 20}, "repetition": {},
        "sentences": {"min_sentences": None, "curly_brackets": True}, "languages": {"keep": ["pcm", "en", "de"]},
        "relevance": {"seeds": str(manual / "[0-3][1-9].txt")}, "rules": ["words > 3"],
    }  # fmt: skip
    against = {"against": [str(manual / "05.txt")], "action": "report"}
    settings: dict[str, Any] = {"filters": filters, "decontaminate": against}
    one, three = (build([{"path": manual}], workers=workers, **settings) for workers in (1, 3))
    assert_same(one.folder, three.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("small_portions")
def test_ray_makes_the_same_bytes(build: Build, manual: Path) -> None:
    import ray

    one = build([{"path": manual}], workers=1)
    try:
        assert_same(one.folder, build([{"path": manual}], engine="ray", workers=2).folder)
        (manual / "59.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(LlmtuneError, match=r"binary file|wrong encoding"):
            build([{"path": manual}], engine="ray", workers=2, on_error="fail")
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("small_portions")
def test_an_error_in_a_worker_is_told_as_in_one_process(build: Build, manual: Path) -> None:
    told = []
    for workers in (1, 2):
        with pytest.raises(LlmtuneError) as error:
            build([{"path": manual}], workers=workers, on_error="fail")
        told.append(str(error.value))
    assert told[0] == told[1]
    assert "00-cut.txt" in told[0]


def twice(shared: int, item: int, monitor: Monitor) -> int:
    return shared * item


def process(shared: int, item: int, monitor: Monitor) -> int:
    return os.getpid()


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:  # cannot be put together again from its text
        super().__init__(f"{one} and {two}")


def fails_oddly(shared: int, item: int, monitor: Monitor) -> int:
    raise Odd(1, 2)


def ends_itself(shared: int, item: int, monitor: Monitor) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def too_late(shared: int, item: int, monitor: Monitor) -> int:
    raise TimeoutError("of the work itself")


def hangs(shared: int, item: int, monitor: Monitor) -> int:
    signal.pause()
    return item


@pytest.mark.slow
def test_processes() -> None:
    engine = NativeEngine(2)
    for count in (40, 67, 200):
        assert list(engine.map(twice, 2, range(count), Monitor())) == list(range(0, 2 * count, 2))
    others = set(engine.map(process, 0, range(40), Monitor()))
    assert os.getpid() not in others
    assert peak_of_helpers() > 2 * 10_000_000
    assert len(others) <= 2
    with pytest.raises(Disturbed, match="ended from outside"):
        list(engine.map(ends_itself, 0, range(8), Monitor()))
    with pytest.raises(TimeoutError, match="of the work itself"):
        list(engine.map(too_late, 0, range(3), Monitor()))
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        list(engine.map(fails_oddly, 0, range(3), Monitor()))

    class Stops(Monitor):
        def __init__(self) -> None:
            self.asked: Iterator[bool] = iter([False, False, True])

        def stop_requested(self) -> bool:
            return next(self.asked)

    with pytest.raises(Stopped):
        list(engine.map(hangs, 0, range(4), Stops()))


BUILD = """
import sys
from pathlib import Path
from llmtune.corpus import portions
from llmtune.corpus.build import build_corpus
from llmtune.corpus.settings import CorpusSettings

if __name__ == "__main__":
    top = Path(sys.argv[1])
    portions._FILES = 3
    settings = CorpusSettings(sources=[{"path": top / "manual"}], workers=2)
    build_corpus(settings, top / sys.argv[2], top / "work", 7, cache=top / "cache")
"""


@pytest.mark.slow
def test_killed_with_its_workers_and_gone_on_with(manual: Path, tmp_path: Path) -> None:
    """No process is left, and the same bytes come out."""
    script = tmp_path / "build.py"
    script.write_text(BUILD)

    def run(output: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, script, tmp_path, output], start_new_session=True)

    for begun in (3, 20):  # portions and their judgements
        killed = run("killed")
        while sum(1 for place in (tmp_path / "cache").glob("*") if place.name[0] != ".") < begun:
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        limit = time.monotonic() + 20
        while any(of_session(killed.pid)):
            assert time.monotonic() < limit, "a worker outlives its build"
            time.sleep(0.05)
    assert run("whole").wait() == 0
    shutil.rmtree(tmp_path / "cache")
    assert run("fresh").wait() == 0
    assert_same(tmp_path / "fresh", tmp_path / "whole")


def of_session(leader: int) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z" and b"resource_tracker" not in cmdline(place.parent):
                yield int(place.parent.name)


def cmdline(process: Path) -> bytes:
    return (process / "cmdline").read_bytes()

"""kill -9 in the middle of a back-translation, as a user's run meets it: the same bytes, and nothing paid for twice."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from tests.augment.conftest import FakeApertium
from tests.run.conftest import CommandLine
from tests.tiny import tiny_checkpoint

STAGES = """
corpus: {sources: [{path: docs}], near_duplicates: null}
back_translate: {keep: {min_similarity: 0.4}}
"""


def translated(line: CommandLine) -> int:
    """How many segments the memory of the running stage holds."""
    for file in line.folder.glob("runs/.artifacts/.work/*/work/memory.sqlite"):
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as base:
                return int(base.execute("SELECT count(*) FROM trips").fetchone()[0])
        except sqlite3.Error:
            continue
    return 0


@pytest.mark.slow
def test_killed_twice_it_ends_in_the_same_bytes(tmp_path: Path, fake: FakeApertium) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    lines = [CommandLine(tmp_path / name, model) for name in ("whole", "killed")]
    for line in lines:
        (line.folder / "docs").mkdir(parents=True)
        for number in range(30):
            sentences = (f"Sentence {'abcdefghij'[at % 10] * (1 + at // 10)} of {'text ' * (1 + number)}says a few "
                         "things about tables." for at in range(25))  # fmt: skip
            (line.folder / "docs" / f"{number}.txt").write_text(" ".join(sentences))
        line.recipe(STAGES)
        line.environment |= {"PATH": fake.environment["PATH"], "FAKE_SECONDS": "0.002"}
    whole, killed = lines
    finished = whole.run("run", "toy.yaml", timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    segments = fake.given()
    assert len(segments) == len(set(segments)) > 600
    (fake.folder / "log").unlink()
    for least in (256, 512):
        running = killed.start("run", "toy.yaml")
        killed.wait_for(lambda least=least: translated(killed) >= least, seconds=60)  # type: ignore[misc]
        assert running.poll() is None
        os.kill(running.pid, 9)
        running.communicate()
        time.sleep(0.5)  # its filters end when they have read what was sent to them
    last = killed.run("run", "toy.yaml", timeout=120)
    assert last.returncode == 0, last.stdout + last.stderr
    again = fake.given()
    assert set(again) == set(segments)
    counts = [again.count(segment) for segment in segments]
    assert counts[:256] == [1] * 256  # written down before the first kill
    assert sum(counts) <= len(segments) + 2 * 256  # of each kill at most the group that was at work
    expected = whole.augmented()
    assert len(expected) == 7
    assert killed.augmented() == expected

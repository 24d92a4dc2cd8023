"""kill -9 while a model is asked, as a user's run meets it: the same bytes, and no reply paid for twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.augment.instruct.server import Server, facts
from tests.run.conftest import CommandLine
from tests.tiny import tiny_checkpoint

PARALLEL = 2
STAGES = """
corpus: {{sources: [{{path: docs}}], near_duplicates: null}}
instruct: {{generate: {{url: "{url}", model: m, parallel: {parallel}}}}}
"""


@pytest.mark.slow
def test_killed_twice_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    server = Server()
    server.seconds = 0.02
    model = tiny_checkpoint(tmp_path / "model")
    lines = [CommandLine(tmp_path / name, model) for name in ("whole", "killed")]
    for line in lines:
        (line.folder / "docs").mkdir(parents=True)
        for number in range(60):
            (line.folder / "docs" / f"{number}.md").write_text(facts(number))
        line.recipe(STAGES.format(url=server.url, parallel=PARALLEL))
        line.environment |= {"no_proxy": "*"}
    whole, killed = lines
    finished = whole.run("run", "toy.yaml", timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    passages = sorted(server.asked)
    assert len(passages) == len(set(passages)) == 60
    server.asked.clear()
    for least in (15, 35):
        running = killed.start("run", "toy.yaml")
        killed.wait_for(lambda least=least: len(server.asked) >= least, seconds=60)  # type: ignore[misc]
        assert running.poll() is None
        os.kill(running.pid, 9)
        running.communicate()
        time.sleep(0.5)  # its worker ends with it
    last = killed.run("run", "toy.yaml", timeout=120)
    assert last.returncode == 0, last.stdout + last.stderr
    server.close()
    assert set(server.asked) == set(passages)
    assert len(server.asked) <= len(passages) + 2 * PARALLEL  # of each kill at most the requests that were on their way
    expected = whole.augmented()
    assert len(expected) == 7
    assert killed.augmented() == expected

"""`prune` in a recipe: a mistake is one message. What becomes of its result: test_kill.py, test_real_road.py."""

from __future__ import annotations

import pytest

from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents

CORPUS = "corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.1}, near_duplicates: null}"


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "said"), [
    ("{keep_layers: 0}", "prune.keep_layers: found 0, expected a number of at least 1"),
    ("{keep_layers: 3}", "there are 2 layers, fewer than 3"),
])  # fmt: skip
def test_what_is_asked_in_vain_is_one_message(line: CommandLine, settings: str, said: str) -> None:
    write_documents(line.folder / "docs")
    line.recipe(f"{CORPUS}\nprune: {settings}")
    ran = line.run("plan", "toy.yaml")
    assert ran.returncode != 0, ran.stdout
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr

"""Where the store of a run is, from wherever the run is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.run.store import ASIDE, STUDY, store_of


@pytest.mark.parametrize("run", ["toy", f"{ASIDE}/toy", "toy/trials/001", "toy/previous/001-trials/001"])
def test_the_store_stands_beside_the_run_of_the_recipe(tmp_path: Path, run: str) -> None:
    for study in ("toy/trials", "toy/previous/001-trials"):
        (tmp_path / study).mkdir(parents=True)
        (tmp_path / study / STUDY).touch()
    store = store_of(tmp_path / run)
    assert store.place("f" * 12).parent == tmp_path / ".artifacts"

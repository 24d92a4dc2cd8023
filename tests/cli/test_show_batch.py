"""`llmtune show-batch` and the corpus it makes: told on stderr, and made once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import TEXT, tiny_checkpoint

RECIPE = """\
name: tiny
model: model/
stages:
  - corpus: {sources: [{path: docs/}], near_duplicates: null}
  - train: {row_tokens: 48, batch_tokens: 96, micro_batch: 2}
"""


@pytest.mark.slow
def test_the_corpus_is_made_before_ones_eyes_and_once(
    llmtune: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "docs").mkdir()
    for number in range(40):
        (tmp_path / "docs" / f"{number}.txt").write_text(f"{number} " + " ".join(TEXT[number % 6 :]))
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    first = llmtune("show-batch", tmp_path / "tiny.yaml", "--runs", tmp_path / "runs")
    assert first.returncode == 0, first.stderr
    assert "▶ corpus" in first.stderr
    assert "✓ corpus" in first.stderr
    assert "corpus" not in first.stdout
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.npy")}
    assert kept
    again = llmtune("show-batch", tmp_path / "tiny.yaml", "--runs", tmp_path / "runs")
    assert (again.stdout, again.stderr.strip()) == (first.stdout, "")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.npy")} == kept
    assert not (tmp_path / "runs" / "tiny").exists(), "looking makes no run"

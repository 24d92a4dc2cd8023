"""What a plan says of a corpus: from files all over a source, whatever is wrong with some of them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmtune.corpus import estimate as estimates
from llmtune.corpus.estimate import estimate
from llmtune.corpus.settings import CorpusSettings


@pytest.mark.parametrize("files", [49, 95, 143])
def test_files_are_looked_at_evenly(tmp_path: Path, files: int) -> None:
    """All are of one size in bytes; those of the second half have a third of the characters."""
    for number in range(files):
        (tmp_path / f"{number:03d}.txt").write_text("\u20ac" * 1000 if number >= files // 2 else "e" * 3000)
    characters = 3000 * (files // 2) + 1000 * (files - files // 2)
    assert estimate(CorpusSettings(sources=[{"path": tmp_path}])).characters == pytest.approx(characters, rel=0.05)


@pytest.mark.parametrize("files", [49, 95, 143])
def test_compressed_files_are_looked_at_evenly(tmp_path: Path, files: int) -> None:
    """Those of the second half hold what packs less."""
    draw, whole = random.Random(3), 0
    for number in range(files):
        text = "word " * 2000 if number < files // 2 else "".join(draw.choices("abcdefghij", k=1000))
        (tmp_path / f"{number:03d}.txt.gz").write_bytes(gzip.compress(text.encode()))
        whole += len(text)
    assert estimate(CorpusSettings(sources=[{"path": tmp_path}])).characters == pytest.approx(whole, rel=0.05)


def test_what_a_reader_fails_on_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small files, and of large ones whose beginnings are read; as in the corpus."""

    def fails(*_: Any) -> Any:
        raise IndexError("nobody thought of this")

    (tmp_path / "a.md").write_text("Some text.")
    (tmp_path / "b.txt").write_text("Some text.")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "word " * 100_000}) + "\n")
    monkeypatch.setattr("llmtune.corpus.readers.text.TextReader.read", fails)
    monkeypatch.setitem(estimates._CUT, "jsonl", fails)
    found = estimate(CorpusSettings(sources=[{"path": tmp_path}]))
    assert found.problems == []
    assert found.characters == len("Some text.")


def test_what_is_not_installed_is_told_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once, however many sources need it."""
    for suffix in ("docx", "pptx", "pdf", "html", "rst", "epub"):
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"a.{suffix}").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("Some text.")
    monkeypatch.setattr(estimates, "have", lambda module: False)
    settings = CorpusSettings(
        sources=[{"path": tmp_path / "a.txt"}], known=[tmp_path / "one", tmp_path / "two"], near_duplicates=None
    )
    of_known = [problem for problem in estimate(settings).problems if "reading `known`" in problem]
    assert len(of_known) >= 4
    assert of_known == sorted(set(of_known))

"""The corpus stage: identity, plan, run, and the files a source means."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from llmtune.corpus.estimate import estimate
from llmtune.corpus.general import general_text
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import files_of, source_names
from llmtune.errors import LlmtuneError
from llmtune.machine import this_machine
from llmtune.stages.corpus import CorpusStage
from llmtune.stages.stage import Context
from tests.corpus.conftest import random_text

POSTGRES = Path("/usr/share/doc/postgresql-doc-15/html")


def run(stage: CorpusStage, top: Path) -> dict[str, Any]:
    (top / "output").mkdir()
    return stage.run({}, Context(top / "output", top / "work", seed=7))


def test_settings_alone_import_nothing_heavy() -> None:
    code = (
        "import sys, llmtune.stages.corpus; "
        "print([m for m in ('torch', 'pyarrow', 'numpy', 'rensa', 'selectolax') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_identity_is_of_contents_not_of_places(folder: Path) -> None:
    first = CorpusStage(sources=[{"path": folder}]).identity()
    assert str(folder) not in repr(first)
    moved = folder.rename(folder.parent / "moved")
    second = CorpusStage(sources=[{"path": moved, "name": "texts"}])
    assert second.identity() == first
    (moved / "00.txt").write_text("changed")
    assert second.identity() != first
    assert CorpusStage(sources=[{"format": "python-docs"}]).identity()["sources"][0]["contents"].endswith(sys.platform)


def test_identity_holds_the_format_and_hashes_unchanged_files_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmtune.files import sha256_file
    from llmtune.models import cache

    hashed: list[str] = []
    monkeypatch.setattr(cache, "REMEMBERED_FROM", 10)
    monkeypatch.setattr(cache, "sha256_file", lambda path: hashed.append(path.name) or sha256_file(path))
    first = CorpusStage(sources=[{"path": folder}]).identity()
    assert len(hashed) == 20
    (folder / "00.txt").write_text("changed, and of another length")
    second = CorpusStage(sources=[{"path": folder}]).identity()
    assert hashed[20:] == ["00.txt"]
    contents = second["sources"][0]["contents"]
    assert contents["00.txt"] == ["text", sha256_file(folder / "00.txt")]
    assert contents["01.txt"] == first["sources"][0]["contents"]["01.txt"] != contents["00.txt"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "needs a path"),
        ({"path": "x", "format": "python-docs"}, "takes no path"),
        ({"path": "x", "format": "html", "columns": {"text": "a"}}, "'columns' is for records"),
        ({"path": "x", "format": "fax"}, "Input should be 'auto'"),
        ({"path": "x", "name": "a/b"}, "String should match pattern"),
    ],
)
def test_impossible_sources_are_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusStage(sources=[source])


def test_paths_are_relative_to_the_recipe(folder: Path) -> None:
    stage = CorpusStage.model_validate({"sources": [{"path": "texts/*.txt"}]}, context={"folder": folder.parent})
    assert stage.sources[0].path == folder / "*.txt"
    assert len(files_of(stage.sources[0])) == 20


def names(path: Path, **settings: Any) -> list[str]:
    return [file.name for file in files_of(Source(path=path, **settings))]


def test_files_of_a_source(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "sub/c.md", "sub/deep/d.html", ".hidden/e.md", "drafts/f.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(tmp_path) == ["a.md", "b.md", "drafts/f.md", "sub/c.md", "sub/deep/d.html"]
    assert names(tmp_path, exclude=["drafts", "*.html"]) == ["a.md", "b.md", "sub/c.md"]
    assert names(tmp_path, include=["sub/**"]) == ["sub/c.md", "sub/deep/d.html"]
    assert names(tmp_path / "*.md") == ["a.md", "b.md"]
    assert names(tmp_path / "**" / "*.md") == ["a.md", "b.md", "drafts/f.md", "sub/c.md"]
    assert names(tmp_path / "a.md") == ["a.md"]


def test_names_of_sources(tmp_path: Path) -> None:
    sources = [
        Source(path=tmp_path / "manual"),
        Source(path=tmp_path / "manual.jsonl"),
        Source(path=tmp_path / "x" / "*.md", name="notes"),
        Source(path=tmp_path / "x" / "**" / "*.md"),
        Source(format="python-docs"),
    ]
    assert source_names(sources) == ["manual", "manual-2", "notes", "x", "python-docs"]


def test_plan_against_run(folder: Path) -> None:
    stage = CorpusStage(sources=[{"path": folder}], split={"valid": 0.1, "test": 0.1})
    plan = stage.plan({}, this_machine())
    metrics = run(stage, folder.parent)
    assert not plan.problems
    assert plan.makes.kind == "corpus"
    characters = metrics["characters"]
    assert sum(plan.makes.tokens.values()) == pytest.approx(characters / 3.75, rel=0.25)
    assert plan.makes.tokens["test"] == pytest.approx(0.1 * characters / 3.75, rel=0.25)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"])
def test_plan_counts_the_records_of_large_files(tmp_path: Path, name: str) -> None:
    random_ = random.Random(8)
    rows = [{"text": random_text(150, random_)} for _ in range(2500)]
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = estimate(CorpusSettings(sources=[{"path": path}]))
    assert path.stat().st_size > 400_000
    assert found.documents == pytest.approx(2500, rel=0.1)
    if not name.endswith("parquet"):
        assert found.characters == pytest.approx(sum(len(row["text"]) for row in rows), rel=0.1)


def test_plan_tells_problems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.html").write_text("<p>x</p>")
    monkeypatch.setattr("llmtune.corpus.estimate.have", lambda module: False)
    stage = CorpusStage(sources=[{"path": folder}, {"path": folder.parent / "missing"}])
    problems = "\n".join(stage.plan({}, this_machine()).problems)
    assert "looking for near-duplicates needs the Python package 'rensa'" in problems
    assert "reading the source 'texts' needs the Python package 'selectolax'" in problems
    assert "source 'missing'" in problems


def test_general_text(tmp_path: Path) -> None:
    licences = general_text(max_characters=50_000)
    assert licences == general_text(max_characters=50_000)
    assert sum(len(document.text or "") for document in licences) <= 50_000
    assert len({document.sha256 for document in licences}) == len(licences) > 5
    mit = "Copyright (c) {} Somebody\n\nPermission is hereby granted, free of charge, to any person"
    for name, year in (("a", 2001), ("b", 2002)):
        (tmp_path / f"{name}.txt").write_text(mit.format(year))
    (tmp_path / "c.md").write_text("Another text.")
    assert [document.id.rpartition("/")[2] for document in general_text(tmp_path)] == ["a.txt", "c.md"]
    assert [document.text for document in general_text(tmp_path / "c.md", max_characters=7)] == ["Another"]
    with pytest.raises(LlmtuneError, match="does not exist"):
        general_text(tmp_path / "none")
    (tmp_path / "b.txt").write_text(" \n")  # nothing in it, and more behind it
    assert len(general_text(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES.is_dir(), reason="Debian's postgresql-doc-15 is not installed")
def test_postgres_pages(tmp_path: Path) -> None:
    stage = CorpusStage(sources=[{"path": POSTGRES, "format": "html", "name": "postgres", "licence": "PostgreSQL"}])
    plan = stage.plan({}, this_machine())
    metrics = run(stage, tmp_path)
    assert metrics["documents"] > 1000
    assert 6_500_000 < metrics["characters"] < 7_500_000
    assert sum(plan.makes.tokens.values()) * 3.75 == pytest.approx(metrics["characters"], rel=0.25)
    from llmtune.corpus.store import SPLITS, read_split

    pages = {d.id.partition("/")[2]: d.text or "" for split in SPLITS for d in read_split(tmp_path / "output", split)}
    for name, text in pages.items():
        for line in (*text.split("\n")[:6], *text.split("\n")[-6:]):
            assert line not in ("Prev", "Up", "Next", "Home"), name
            assert "Prev" not in line.split() or "Next" not in line.split(), name
    vacuum = pages["sql-vacuum.html"]
    assert vacuum.startswith("## VACUUM\n")
    assert "```\nVACUUM [ ( option [, ...] ) ] [ table_and_columns [, ...] ]\n" in vacuum
    assert "|" in pages["datatype.html"]
    assert "| `bigint` | `int8` | signed eight-byte integer |" in pages["datatype.html"]

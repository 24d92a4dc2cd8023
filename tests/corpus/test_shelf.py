"""A corpus that grows: what has not changed is not read again, and the result is that of a build from nothing."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmtune.corpus import intake, pieces, portions, shelf, sources
from llmtune.corpus.build import build_corpus
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.shelf import Shelf, made, versions
from llmtune.corpus.store import SPLITS, read_split
from llmtune.errors import Disturbed, LlmtuneError, Stopped
from llmtune.monitor import Monitor

from .conftest import random_text
from .test_engine import assert_same


class Grown:
    """build(**settings) → what was read: names of the files whose text was taken from them."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts, self.cache, self._top, self.builds = top / "texts", top / "cache", top, 0
        self.texts.mkdir()
        self.read: list[str] = []
        really = portions.raw_documents

        def noted(file: Any, source: Any) -> Any:
            self.read.append(file.name if file.piece is None else f"{file.name}#{file.piece.first}")
            return really(file, source)

        monkeypatch.setattr(portions, "raw_documents", noted)
        monkeypatch.setattr(portions, "_FILES", 5)

    def build(self, format: str = "auto", **settings: Any) -> list[str]:
        self.builds += 1
        self.read.clear()
        top = self._top / str(self.builds)
        asked = CorpusSettings(sources=[{"path": str(self.texts), "format": format, "name": "texts"}], **settings)
        build_corpus(asked, top / "cached", top / "work", 7, cache=self.cache)
        read = list(self.read)
        build_corpus(asked, top / "fresh", top / "work-fresh", 7)
        assert_same(top / "fresh", top / "cached")
        return read


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grown:
    """Over twenty documents with a footer and a broken word, in five portions."""
    found, random_ = Grown(tmp_path, monkeypatch), random.Random(2)
    for number in range(22):
        text = (
            f"{random_text(60, random_)}\nconfig-\nuration\n\nAll rights of this are reserved by Acme, page {number}."
        )
        (found.texts / f"{number:02d}.txt").write_text(text)
    return found


def test_only_what_is_new_is_read(grown: Grown) -> None:
    assert len(grown.build()) == 22
    assert grown.build() == []
    (grown.texts / "21-more.txt").write_text(random_text(60, random.Random(9)) + "\nconfiguration")
    assert grown.build() == ["20.txt", "21-more.txt", "21.txt"]
    (grown.texts / "07.txt").write_text(random_text(60, random.Random(10)))
    assert grown.build() == ["05.txt", "06.txt", "07.txt", "08.txt", "09.txt"]
    (grown.texts / "08.txt").unlink()
    assert set(grown.build()) <= {f"{number:02d}.txt" for number in range(5, 22)} | {"21-more.txt"}


@pytest.fixture
def lines(grown: Grown, small_pieces: None) -> list[str]:
    """Records of a large file `11.jsonl` among the documents, with a footer."""
    random_ = random.Random(4)
    found = [
        json.dumps({"text": f"{random_text(20, random_)}\n\nAll rights of this are reserved by Acme."})
        for _ in range(200)
    ]
    (grown.texts / "11.jsonl").write_text("\n".join(found))
    return found


def test_of_a_large_file_only_what_is_new_is_read(grown: Grown, lines: list[str]) -> None:
    path = grown.texts / "11.jsonl"
    read = grown.build()
    pieces = [name for name in read if "#" in name]
    assert len(read) == 22 + len(pieces)
    assert len(pieces) > 8
    assert grown.build() == []
    more = json.dumps({"text": random_text(20, random.Random(11))})
    path.write_text("\n".join([*lines, more]))  # its last line had no end
    assert grown.build() == pieces[-1:]
    changed = [*lines, more]
    changed[90] = json.dumps({"text": random_text(200, random.Random(12))})  # longer by half a piece
    path.write_text("\n".join(changed))
    assert len(grown.build()) < 5
    path.write_text("\n".join([*lines[:16], *changed]))  # pieces as before, but for the numbers
    assert all(name.startswith("11.jsonl#") for name in grown.build())


def test_a_large_file_is_gone_on_with_in_the_middle(
    grown: Grown, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(Monitor):
        def stop_requested(self) -> bool:
            return grown.read[-1:] == ["11.jsonl#129"]

    settings = CorpusSettings(sources=[{"path": grown.texts}], workers=1)
    with pytest.raises(Stopped):
        build_corpus(settings, tmp_path / "out", tmp_path / "work", 7, Stops())
    before = list(grown.read)
    assert before[-3:-1] == ["11.jsonl#97", "11.jsonl#113"]
    grown.read.clear()
    build_corpus(settings, tmp_path / "out", tmp_path / "work", 7)
    assert grown.read[0] == "11.jsonl#129"
    assert not set(before[:-1]) & set(grown.read)


@pytest.mark.parametrize("when", [(pieces, "_content"), (portions, "raw_documents")])
def test_a_large_file_that_changes_meanwhile_spoils_nothing(
    grown: Grown, lines: list[str], monkeypatch: pytest.MonkeyPatch, when: tuple[Any, str]
) -> None:
    path = grown.texts / "11.jsonl"
    really = getattr(*when)

    def changing(file: Any, *rest: Any) -> Any:
        if file.piece is not None and file.piece.first == 1:  # in which a line end has been looked for
            path.write_text("\n".join(["", *lines]))
        return really(file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(*when, changing)
        with pytest.raises(Disturbed, match="changed while"):
            grown.build()
    path.write_text("\n".join(lines))
    grown.build()


def test_a_large_file_may_grow_while_it_is_read(
    grown: Grown, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there is what counts, also of a last line without an end."""
    settings = CorpusSettings(sources=[{"path": grown.texts}], workers=1)
    build_corpus(settings, tmp_path / "before", tmp_path / "work", 7)
    really = portions.raw_documents

    def growing(file: Any, source: Any) -> Any:
        if file.piece is not None:
            with (grown.texts / "11.jsonl").open("a") as grows:
                grows.write(f", and more\n{lines[0]}")
        return really(file, source)

    monkeypatch.setattr(portions, "raw_documents", growing)
    build_corpus(settings, tmp_path / "meanwhile", tmp_path / "work-meanwhile", 7)
    monkeypatch.undo()
    assert_same(tmp_path / "before", tmp_path / "meanwhile")


def test_other_ways_to_judge_and_split_read_nothing(grown: Grown) -> None:
    grown.build()
    seeds = str(grown.texts / "*.txt")
    for settings in (
        {"min_characters": 330}, {"near_duplicates": None}, {"near_duplicates": 0.7}, {"filters": {"length": {}}},
        {"split": {"test": 0.3}}, {"decontaminate": {"against": [grown.texts / "03.txt"]}},
        {"filters": {"relevance": {"seeds": seeds, "keep_seeds": 0.5}}}, {"workers": 1},
        {"known": [grown.texts / "04.txt"]},
    ):  # fmt: skip
        assert grown.build(**settings) == []
    assert len(grown.build(clean={"mojibake": False})) == 22
    assert len(grown.build(reuse=False)) == 22


def test_evaluation_texts_and_seeds_that_change_count(grown: Grown, tmp_path: Path) -> None:
    exam = tmp_path / "exam.txt"
    for number in (3, 4):
        exam.write_text((grown.texts / f"{number:02d}.txt").read_text())
        grown.build(decontaminate={"against": [exam]})  # is that of a build from nothing


def test_files_that_change_while_they_are_read_spoil_nothing(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (grown.texts / "06.txt").read_text()
    really = portions.raw_documents

    def changing(file: Any, source: Any) -> Any:
        if file.name == "06.txt":
            file.path.write_text("Another text. " * 20)
        return really(file, source)

    monkeypatch.setattr(portions, "raw_documents", changing)
    with pytest.raises(Disturbed, match="changed while they were read"):
        grown.build()
    monkeypatch.setattr(portions, "raw_documents", really)
    (grown.texts / "06.txt").write_text(before)
    grown.build()


def test_what_is_not_whole_is_made_again(grown: Grown) -> None:
    grown.build()
    for name in ("record.json", "sketch.npz", "lines.npz", "dropped.parquet", "files.json", "read", "kept"):
        for place in [path for path in grown.cache.iterdir() if (path / name).exists()][:2]:
            if (place / name).is_dir():
                shutil.rmtree(place / name)
            else:
                os.truncate(place / name, 1)
        grown.build()


def test_a_cache_that_cannot_be_used_is_none(grown: Grown) -> None:
    grown.cache.write_text("a file")
    assert len(grown.build()) == 22


def test_errors_that_pass_are_not_remembered(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_files(self: object, path: Path, source: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("llmtune.corpus.readers.text.TextReader.read", no_more_files)
        with pytest.raises(Disturbed, match="Too many open files"):
            grown.build()
    grown.build()


def test_other_evaluation_texts_while_documents_are_read(
    grown: Grown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = tmp_path / "exam.txt"
    exam.write_text((grown.texts / "03.txt").read_text())
    really = portions.raw_documents

    def changing(file: Any, source: Any) -> Any:
        exam.write_text((grown.texts / "04.txt").read_text())
        return really(file, source)

    with monkeypatch.context() as patch:
        patch.setattr(portions, "raw_documents", changing)
        with pytest.raises(Disturbed, match="compared with changed"):
            grown.build(decontaminate={"against": [exam]})
    grown.build(decontaminate={"against": [exam]})


def test_how_the_path_was_written_counts(grown: Grown) -> None:
    for path in list(grown.texts.iterdir()):
        (grown.texts / f"{path.stem}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    top, grown.texts = grown.texts, grown.texts / "*.gz"
    assert len(grown.build(format="markdown")) == 22
    grown.texts = top
    with pytest.raises(LlmtuneError, match="empty"):
        grown.build(format="markdown")


def test_copies_are_looked_for_where_they_were_not_before(grown: Grown) -> None:
    (grown.texts / "22.txt").write_text((grown.texts / "03.txt").read_text() + "\nOne line more.")
    grown.build(near_duplicates=None)
    grown.build()


def test_seeds_that_change_count(grown: Grown, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.txt"
    for number in (3, 4):
        seeds.write_text((grown.texts / f"{number:02d}.txt").read_text() * 60)
        grown.build(filters={"relevance": {"seeds": seeds, "keep_seeds": 0.5}}, near_duplicates=None)


def test_what_nobody_uses_goes_after_a_month(tmp_path: Path) -> None:
    cache = Shelf(tmp_path, lasting=True)
    made(tmp_path / "used", lambda folder: None)
    ages = {"used": 40, "recent": 20, "old": 40, ".begun.1.tmp": 2, ".beginning.2.tmp": 0}
    for name, days in ages.items():
        (tmp_path / name).mkdir(exist_ok=True)
        os.utime(tmp_path / name, (time.time() - days * 86_400,) * 2)
    made(tmp_path / "used", lambda folder: None)
    cache.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".beginning.2.tmp", "recent", "used"]


@pytest.mark.parametrize("damaged", [False, True])
def test_what_another_build_makes_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """It makes the place in the moment after it was found missing, or damaged."""
    place = tmp_path / "place"
    really = shelf._is_whole

    def looked_at(folder: Path) -> bool:
        monkeypatch.setattr(shelf, "_is_whole", really)
        found = really(folder)
        made(folder, lambda new: (new / "by").write_text("another") and None)
        return found

    if damaged:
        place.mkdir()
    monkeypatch.setattr(shelf, "_is_whole", looked_at)
    made(place, lambda new: (new / "by").write_text("this one") and None)
    assert (place / "by").read_text() == "another"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_work_folder_gives_back_no_other_documents(tmp_path: Path) -> None:
    """Neither those of files as they were, nor those of other settings."""
    texts, random_ = tmp_path / "texts", random.Random(1)
    texts.mkdir()

    def build(**settings: Any) -> set[str]:
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        asked = CorpusSettings(sources=[{"path": texts}], workers=1, **settings)
        build_corpus(asked, output, tmp_path / "work", 7)
        return {document.text or "" for split in SPLITS for document in read_split(output, split)}

    for words in (60, 80):
        for number in range(4):
            (texts / f"{number}.txt").write_text(random_text(words, random_))
        assert build() == {path.read_text() for path in texts.iterdir()}
    (texts / "0.txt").write_text("A short one.")
    assert len(build(min_characters=1)) == 4
    assert len(build(min_characters=100)) == 3


def test_versions_are_of_all_that_reads() -> None:
    found = {line.split()[0] for line in versions()}
    assert {"docutils", "lxml", "pyarrow", "selectolax", "xxhash"} <= found


@pytest.mark.parametrize("cached", [False, True])
def test_what_can_never_be_read_is_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """And is not taken for a file that could be read a moment ago."""
    closed = folder / "03.txt"
    really_read, really_content = intake.reader_of, sources._content

    def reader_of(format: str) -> Any:
        reader = really_read(format)

        def read(path: Path, source: Source) -> Any:
            if path == closed:
                raise PermissionError(13, "Permission denied")
            return reader.read(path, source)

        return SimpleNamespace(read=read)

    monkeypatch.setattr(intake, "reader_of", reader_of)
    monkeypatch.setattr(
        sources,
        "_content",
        lambda file, digest: (
            "unreadable file: Permission denied" if file.path == closed else really_content(file, digest)
        ),
    )
    settings = CorpusSettings.model_validate({"sources": [{"path": folder}], "workers": 1})
    output = tmp_path / "corpus"
    output.mkdir()
    metrics = build_corpus(settings, output, tmp_path / "work", 1, cache=tmp_path / "cache" if cached else None)
    assert metrics["dropped"] == {"unreadable file": 1}
    assert metrics["documents"] == 19

"""Folders that are there whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmtune.files import is_disk_full, made_whole


def test_made_once_and_left_alone_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "made"
    for text in ("first", "second"):
        assert made_whole(place, lambda to, text=text: (to / "a").write_text(text)) == place  # type: ignore[misc]
    assert (place / "a").read_text() == "first"
    assert [path.name for path in place.parent.iterdir()] == ["made"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(to: Path) -> None:
        (to / "a").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_whole(tmp_path / "made", make)
    assert list(tmp_path.iterdir()) == []


def test_of_two_at_once_the_first_counts(tmp_path: Path) -> None:
    place = tmp_path / "made"

    def make(to: Path) -> None:
        place.mkdir()
        (place / "a").write_text("the other's")
        (to / "a").write_text("ours")

    assert made_whole(place, make) == place
    assert (place / "a").read_text() == "the other's"
    assert list(tmp_path.iterdir()) == [place]


def test_a_lock_s_holder_removes_what_a_kill_has_left(tmp_path: Path) -> None:
    left, others = tmp_path / ".made.4194304.tmp", tmp_path / ".made.v2.4194304.tmp"
    for folder in (left, others):
        folder.mkdir()
        (folder / "half").write_text("x")
    made_whole(tmp_path / "one", lambda to: None, alone=True)
    made_whole(tmp_path / "made", lambda to: None)
    assert left.exists()
    (tmp_path / "made").rmdir()
    made_whole(tmp_path / "made", lambda to: None, alone=True)
    assert not left.exists()
    assert others.exists()


def test_a_full_disk_in_the_words_of_sqlite() -> None:
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("PRAGMA max_page_count = 2")
        base.execute("CREATE TABLE some (text TEXT)")
        with pytest.raises(sqlite3.OperationalError) as full:
            base.execute("INSERT INTO some VALUES (?)", ("x" * 100_000,))
    assert is_disk_full(full.value)
    assert not is_disk_full(sqlite3.OperationalError("database is locked"))

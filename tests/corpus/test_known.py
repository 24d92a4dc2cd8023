"""Copies of documents that are elsewhere already do not come in, whatever file or corpus they stand in there."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from llmtune.errors import LlmtuneError
from llmtune.machine import this_machine
from llmtune.stages.corpus import CorpusStage

from .conftest import Build, changed, random_text


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of twelve documents, and one of six, of which two are copies and one a near-copy of the former."""
    draw = random.Random(4)
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    for number in range(12):
        (old / f"{number:02d}.txt").write_text(random_text(150, draw))
    for number in range(3):
        (new / f"fresh-{number}.txt").write_text(random_text(150, draw))
    (new / "copy.txt").write_text((old / "03.txt").read_text() + "\n\n")
    (new / "again.txt").write_text((old / "03.txt").read_text())
    (new / "near.txt").write_text(changed((old / "07.txt").read_text(), 0.03, draw))
    return old, new


@pytest.mark.parametrize("form", ["files", "corpus"])
def test_copies_of_known_documents_are_dropped(build: Build, places: tuple[Path, Path], form: str) -> None:
    old, new = places
    known = old if form == "files" else build([{"path": old}]).folder
    built = build([{"path": new}], known=[known])
    assert {document.id for document in built.documents} == {f"new/fresh-{number}.txt" for number in range(3)}
    card = json.loads((built.folder / "card.json").read_text())
    assert card["dropped"] == {"known document": 3}
    assert card["duplicates"]["known"] == 3
    details = {one["id"]: one["detail"] for one in card["dropped_named"]["known document"]}
    if form == "files":
        assert details["new/copy.txt"] == details["new/again.txt"] == "of old/03.txt"
        assert details["new/near.txt"].startswith("of old/07.txt, similarity 0.")


def test_without_looking_for_near_copies_only_the_same_text_is_known(build: Build, places: tuple[Path, Path]) -> None:
    old, new = places
    built = build([{"path": new}], known=[old], near_duplicates=None)
    assert "new/near.txt" in {document.id for document in built.documents}
    assert len(built.documents) == 4


def test_the_same_text_is_known_as_it_was_before_the_clean_up(build: Build, places: tuple[Path, Path]) -> None:
    """With personal data, and decoded by the wrong encoding."""
    old, new = places
    dirty = {
        "mail": "\nWrite to anna@acme-corp.com or mary@acme-corp.com today.",
        "wrong": "\nDas ist fÃ¼r die LÃ¶sung der Aufgabe.",
    }
    for name, more in dirty.items():
        for folder in (old, new):
            (folder / f"{name}.txt").write_text(f"{(old / '05.txt').read_text()}{more}")
    built = build([{"path": new}], known=[old], near_duplicates=None)
    assert {document.id for document in built.documents} == {
        "new/near.txt", *(f"new/fresh-{number}.txt" for number in range(3)),
    }  # fmt: skip


def test_known_documents_are_part_of_the_identity(places: tuple[Path, Path]) -> None:
    old, new = places
    stage = CorpusStage.model_validate({"sources": [{"path": new}], "known": [old]})
    before = stage.identity()
    assert str(old) not in json.dumps(before)
    (old / "00.txt").write_text("changed")
    assert stage.identity() != before
    missing = CorpusStage.model_validate({"sources": [{"path": new}], "known": [old / "nothing"]})
    (problem,) = missing.plan({}, this_machine()).problems
    assert problem.startswith("known: ")
    assert "does not exist" in problem


def test_known_documents_that_cannot_be_read_are_an_error(build: Build, places: tuple[Path, Path]) -> None:
    old, new = places
    (old / "broken.txt").write_bytes(b"\0" * 500)
    with pytest.raises(LlmtuneError, match="copies of it cannot be kept out: binary file"):
        build([{"path": new}], known=[old])


def test_a_copy_of_what_is_dropped_as_known_is_not_dropped_for_it(build: Build, tmp_path: Path) -> None:
    """The first is a copy of the known text, the second of the first alone."""
    draw = random.Random(3)
    text = random_text(400, draw)
    first = changed(text, 0.045, draw)
    second = changed(first, 0.045, draw)
    for name, content in (("known", text), ("new", first)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(content)
    (tmp_path / "new" / "2.txt").write_text(second)
    built = build([{"path": tmp_path / "new"}], known=[tmp_path / "known"], near_duplicates=0.72)
    assert [document.id for document in built.documents] == ["new/2.txt"]


def test_nothing_new_is_an_error(build: Build, folder: Path) -> None:
    with pytest.raises(LlmtuneError, match="the corpus is empty after filtering: 20 × known document"):
        build([{"path": folder}], known=[folder])


def test_personal_data_does_not_hide_what_is_known(build: Build, folder: Path, tmp_path: Path) -> None:
    """Documents with an address are dropped; a copy without it is known all the same."""
    (tmp_path / "known.txt").write_text(f"Ask jane.miller@postgres-team.org.\n\n{(folder / '03.txt').read_text()}")
    built = build([{"path": folder}], known=[tmp_path / "known.txt"], clean={"pii": {"email": "drop"}})
    assert built.metrics["dropped"] == {"known document": 1}

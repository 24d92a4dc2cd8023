"""Files of several annotators are checked against what was asked, and whatever is odd is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmtune.annotate.export import write_export
from llmtune.annotate.labels import read_labels
from llmtune.annotate.reading import read_rows
from llmtune.annotate.records import write_lines
from llmtune.annotate.tasks import Task
from llmtune.errors import LlmtuneError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of six documents for two annotators, who have filled it in."""
    tasks = [Task(f"doc {number}", f"Text of {number}.", f"group {number // 2}") for number in range(6)]
    write_export(tmp_path / "out", tasks, ["spam", "ham"], "jsonl", annotators=2)
    fill(tmp_path / "out" / "annotator-1.jsonl", "spam spam ham ham ham ham")
    fill(tmp_path / "out" / "annotator-2.jsonl", "spam ham ham ham spam ham")
    return tmp_path / "out"


def fill(path: Path, said: str, **changes: dict[str, object]) -> None:
    rows = read_rows(path)
    records = [{"id": row.id, "text": row.text, "label": label} for row, label in zip(rows, said.split(), strict=True)]
    write_lines(path, [{**record, **changes.get(f"row_{place}", {})} for place, record in enumerate(records)])


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("annotator-*.jsonl"))


def test_all_is_well(folder: Path) -> None:
    labels = read_labels(files(folder))
    assert (labels.names, labels.annotators, labels.notes) == (["spam", "ham"], ["annotator-1", "annotator-2"], [])
    assert labels.votes["doc 1"] == {"annotator-1": "spam", "annotator-2": "ham"}
    assert (labels.texts["doc 1"], labels.groups["doc 1"]) == ("Text of 1.", "group 0")
    with pytest.raises(LlmtuneError, match="2 annotators labelled it"):
        labels.single()


def test_what_is_passed_over_is_counted_and_named(folder: Path) -> None:
    path = folder / "annotator-1.jsonl"
    text = {"text": "Another text."}
    fill(
        path,
        "spam spam ham ham ham ham",
        row_0={"label": ""},
        row_1=text,
        row_4={"id": "doc 3"},
        row_2={"text": " Text\nof 2."},
    )
    labels = read_labels(files(folder))
    assert labels.notes == [
        f"{path}: 1 of 6 exported documents are not in it: doc 4",
        f"{path}: 1 of 6 rows are not labelled: doc 0",
        f"{path}: 1 rows say again what the annotator said before: doc 3",
        "the text was changed since the export, or differs between files: doc 1, doc 3",
    ]
    assert labels.votes["doc 0"] == {"annotator-2": "spam"}
    assert labels.texts["doc 1"] == "Text of 1."  # as exported, from the other file


def test_files_that_left_their_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    moved = folder.joinpath("annotator-1.jsonl").rename(tmp_path / "back" / "annotator-1.jsonl")
    fill(moved, "spam spam ham ham ham hma")
    assert read_labels([moved]).names == ["ham", "hma", "spam"]
    with pytest.raises(LlmtuneError, match="labels that were not asked for: 'hma'"):
        read_labels([moved], folder)
    with pytest.raises(LlmtuneError, match=r"holds no asked\.json"):
        read_labels([moved], tmp_path / "back")


def test_annotators_of_files_with_one_name(tmp_path: Path) -> None:
    paths = [tmp_path / who / "tasks.jsonl" for who in ("anna", "ben")]
    for path in paths:
        write_lines(path, [{"id": "a", "label": "x"}])
    assert read_labels(paths).annotators == [path.as_posix() for path in paths]
    with pytest.raises(LlmtuneError, match="a file is named twice"):
        read_labels([paths[0], paths[0]])


def test_annotators_that_rows_name(tmp_path: Path) -> None:
    rows = [{"id": "a", "label": "x", "annotator": who} for who in ("anna", "ben", 3, None)]
    write_lines(tmp_path / "all.jsonl", rows)
    assert read_labels([tmp_path / "all.jsonl"]).annotators == ["3", "all", "anna", "ben"]


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"label": "Spam"}, r"'Spam' \(1 times, first in line 1\), is it 'spam'\?", "the labels are: spam, ham"),
        ({"label": "eggs"}, r"not asked for: 'eggs' \(1 times, first in line 1\)$", "the labels are: spam, ham"),
        ({"id": "doc 9"}, "1 of its ids were not exported: doc 9", "--export"),
        ({"id": "doc 3"}, "annotator-1 labelled doc 3 twice, as 'spam' and as 'ham'", "keep one of the two"),
    ],
)
def test_what_is_refused(folder: Path, changes: dict[str, object], message: str, fix: str) -> None:
    fill(folder / "annotator-1.jsonl", "spam spam ham ham ham ham", row_0=changes)
    with pytest.raises(LlmtuneError) as raised:
        read_labels(files(folder))
    assert "annotator-1.jsonl" in str(raised.value.where)
    assert re.search(message, raised.value.what)
    assert fix in str(raised.value.fix)


def test_control_characters_of_ids_are_spelt_out_where_they_are_told(tmp_path: Path) -> None:
    tasks = [Task("\x1b[31m", "one", "g"), Task("b", "two", "g")]
    write_export(tmp_path / "out", tasks, ["x", "y"], "jsonl")
    path = tmp_path / "out" / "tasks.jsonl"
    write_lines(path, [{"id": "b", "label": "x"}])
    assert read_labels([path]).notes == [f"{path}: 1 of 2 exported documents are not in it: \\x1b[31m"]
    write_lines(path, [{"id": "\x1b[31m", "label": label} for label in "xy"])
    with pytest.raises(LlmtuneError, match=r"tasks labelled \\x1b\[31m twice"):
        read_labels([path])
    other = path.rename(tmp_path / "out" / "\x1b[31m.jsonl")
    write_lines(other, [{"id": "b", "label": "x"}])
    assert read_labels([other]).annotators == ["\\x1b[31m"]


def test_nothing_labelled_yet(tmp_path: Path) -> None:
    write_export(tmp_path / "out", [Task("a", "one", "g")], ["x", "y"], "csv")
    with pytest.raises(LlmtuneError, match="nothing is labelled yet"):
        read_labels([tmp_path / "out" / "tasks.csv"])

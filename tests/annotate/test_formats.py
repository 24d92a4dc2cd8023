"""What is written for annotators comes back unchanged, through each format; what they send back is read or refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.annotate.cells import read_table, write_table
from llmtune.annotate.export import Format, labels_in, read_asked, write_export
from llmtune.annotate.reading import read_rows
from llmtune.annotate.tasks import Task
from llmtune.errors import BadArtifact, LlmtuneError

FORMATS: list[Format] = ["csv", "jsonl", "label-studio"]
ODD = [
    "=1+1",
    "'=1+1",
    "''-1",
    "+49",
    "-list",
    "@here",
    "\tcell",
    "\n=1+1",
    "＝１",
    "a\nb\r\nc\rd",
    '"',
    "a;b,c\td",
    "😀\u2028\x85",
]
odd_text = st.one_of(st.text(), st.sampled_from(ODD), st.tuples(st.sampled_from("'=+-@\n\t"), st.text()).map("".join))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(odd_text, odd_text), min_size=1, max_size=5))
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    tasks = [Task(f"{number}{id.strip()}", text, "g") for number, (id, text) in enumerate(rows)]
    for format in FORMATS:
        folder = tmp_path_factory.mktemp("odd") / "out"
        (name,) = write_export(folder, tasks, ["a", "b"], format)
        read = read_rows(folder / name)
        assert [(row.id, row.text, row.label) for row in read] == [(task.id, task.text, None) for task in tasks]
        asked = read_asked(folder)
        assert asked is not None
        assert (asked.labels, asked.groups) == (("a", "b"), {task.id: "g" for task in tasks})


@given(st.lists(st.lists(odd_text, min_size=2, max_size=2), max_size=5))
def test_no_cell_is_a_formula(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("cells") / "table.csv"
    write_table(path, ["one", "two"], rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # else Excel takes it for its own code page
    cells = [cell for row in csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")) for cell in row]
    assert not any(cell.startswith(tuple("=+-@\t\r\n＝＋－＠")) for cell in cells)
    again = [list(row.values()) for _, row in read_table(path, path.read_bytes())]
    assert again == [row for row in rows if any(row)]


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (";", "utf-16")]
)
def test_tables_as_spreadsheets_save_them(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=delimiter)
    table.writerows(
        [["ID", "Text", "Label ", ""], ["a", "Ü, b;\nc", " spam ", ""], ["b", "x", "", ""], ["", "", "", ""]]
    )
    (tmp_path / "anna.csv").write_bytes(text.getvalue().encode(encoding))
    rows = read_rows(tmp_path / "anna.csv")
    assert [(row.id, row.text, row.label, row.where) for row in rows] == [
        ("a", "Ü, b;\nc", "spam", "line 2"),
        ("b", "x", None, "line 4"),
    ]


def test_cells_left_out_at_the_end_of_a_row_are_empty(tmp_path: Path) -> None:
    (tmp_path / "anna.csv").write_text("id,text,label\na,hello,x\nb,hello\nc\n")
    rows = read_rows(tmp_path / "anna.csv")
    assert [(row.id, row.text, row.label) for row in rows] == [
        ("a", "hello", "x"),
        ("b", "hello", None),
        ("c", "", None),
    ]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_json_in_utf_16(tmp_path: Path, encoding: str) -> None:
    for name, text in (
        ("lines.jsonl", '{"id": "ä", "label": "x"}\r\n'),
        ("array.json", '[{"id": "ä", "label": "x"}]'),
        (
            "studio.json",
            json.dumps([{"data": {"document": "ä"}, "annotations": [annotation("x")]}], ensure_ascii=False),
        ),
    ):
        (tmp_path / name).write_bytes(f"\ufeff{text}".encode(encoding))
        assert [(row.id, row.label) for row in read_rows(tmp_path / name)] == [("ä", "x")]


def test_files_for_several_annotators_are_the_same(tmp_path: Path) -> None:
    tasks = [Task("a", "one", "g"), Task("b", "two", "h")]
    names = write_export(tmp_path / "out", tasks, ["x", "y"], "csv", annotators=3)
    assert names == ["annotator-1.csv", "annotator-2.csv", "annotator-3.csv"]
    assert len({(tmp_path / "out" / name).read_bytes() for name in names}) == 1
    with pytest.raises(LlmtuneError, match="is there already, and may hold labels"):
        write_export(tmp_path / "out", tasks, ["x", "y"], "csv")


def annotation(*choices: str, **more: Any) -> dict[str, Any]:
    """As Label Studio exports it."""
    result = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": list(choices)}}
    return {"id": 7, "was_cancelled": False, "result": [result] if choices else [], **more}


def test_label_studio(tmp_path: Path) -> None:
    labels = ["so & so", '<"none">']
    write_export(tmp_path / "out", [Task("a", "one", "g"), Task("b", "two", "h")], labels, "label-studio")
    view = ElementTree.parse(tmp_path / "out" / "label-studio.xml").getroot()  # noqa: S314
    assert [choice.get("value") for choice in view.iter("Choice")] == labels
    (text,), (choices,) = view.iter("Text"), view.iter("Choices")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert text.get("value") == "$text"
    assert choices.get("toName") == text.get("name")
    assert set(tasks[0]["data"]) == {"document", "text"}
    tasks[0] |= {"id": 1, "annotations": [annotation("so & so", completed_by=3), annotation(completed_by=4)]}
    tasks[1]["annotations"] = [
        annotation('<"none">', completed_by={"id": 3, "email": "anna@example.org"}),
        annotation("so & so", completed_by=4, was_cancelled=True),
    ]
    (tmp_path / "project-1.json").write_text(json.dumps(tasks))
    rows = read_rows(tmp_path / "project-1.json")
    assert [(row.id, row.label, row.annotator) for row in rows] == [
        ("a", "so & so", "3"),
        ("a", None, "4"),
        ("b", '<"none">', "anna@example.org"),
        ("b", None, "4"),
    ]


def test_label_studio_csv_and_json_min(tmp_path: Path) -> None:
    """Their `id` is the number of the task; ours is `document`."""
    record = {"annotation_id": 5, "annotator": "anna@example.org", "document": "a", "id": 17, "label": "spam"}
    record |= {"lead_time": 2.5, "text": "one", "was_cancelled": False}
    (tmp_path / "min.json").write_text(json.dumps([record, {**record, "document": "b", "was_cancelled": True}]))
    with (tmp_path / "result.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, record, quoting=csv.QUOTE_NONNUMERIC)
        table.writeheader()
        table.writerows([record, {**record, "document": "b", "was_cancelled": True}])
    for name in ("min.json", "result.csv"):
        assert [(row.id, row.label, row.annotator) for row in read_rows(tmp_path / name)] == [
            ("a", "spam", "anna@example.org"),
            ("b", None, "anna@example.org"),
        ]


def test_lone_surrogates_are_spelt_out(tmp_path: Path) -> None:
    (tmp_path / "anna.jsonl").write_text('{"id": "\\udce9", "text": "a\\ud800b", "label": "\\udfff"}\n')
    (row,) = read_rows(tmp_path / "anna.jsonl")
    assert (row.id, row.text, row.label) == ("\\udce9", "a\\ud800b", "\\udfff")
    tasks = [{"data": {"document": "a", "text": "\ud800"}, "annotations": [annotation("\udfff")]}]
    (tmp_path / "studio.json").write_text(json.dumps(tasks))
    (row,) = read_rows(tmp_path / "studio.json")
    assert (row.text, row.label) == ("\\ud800", "\\udfff")


def test_control_characters_of_labels_and_annotators_are_spelt_out(tmp_path: Path) -> None:
    """A terminal would act on them. Texts and ids, which must be those exported, stay."""
    said, spelt = "\x1b[31mred\u202e\x07", "\\x1b[31mred\\u202e\\x07"
    record = {"id": said, "text": said, "label": f"{said}\n", "annotator": said}
    (tmp_path / "lines.jsonl").write_text(json.dumps(record))
    (tmp_path / "table.csv").write_text(f"id,text,label,annotator\n{said},{said},{said},{said}\n")
    tasks = [{"data": {"document": said, "text": said}, "annotations": [annotation(said, completed_by=said)]}]
    (tmp_path / "studio.json").write_text(json.dumps(tasks))
    for name in ("lines.jsonl", "table.csv", "studio.json"):
        (row,) = read_rows(tmp_path / name)
        assert (row.id, row.text, row.label, row.annotator) == (said, said, spelt, spelt)
    for content in (f"id,{said}\na,b\n", f"id,{said},{said}\na,b,c\n"):
        (tmp_path / "columns.csv").write_text(content)
        with pytest.raises(LlmtuneError) as raised:
            read_rows(tmp_path / "columns.csv")
        assert spelt in raised.value.what


@pytest.mark.parametrize(
    ("name", "content", "where", "message"),
    [
        ("a.csv", b"id,text\na,b\n", "line 2", "has no column 'label'; it has: id, text"),
        ("a.csv", b"name,label\na,b\n", "line 2", "has no column 'id'"),
        ("a.csv", b"id,label\na,b,c\n", "line 2", "has 3 cells, the header 2"),
        ("a.csv", b"id,label\n,b\n", "line 2", "has no id"),
        ("a.csv", b'id,label\na,"b\n', "line 2", "is no CSV: unexpected end of data"),
        ("a.csv", "id,label\nä,b\n".encode("cp1252"), "a.csv", "is not UTF-8: byte 10 is 0xe4"),
        ("a.csv", b"", "a.csv", "holds no rows"),
        ("a.csv", b"\xff\xfea", "a.csv", "is not UTF-16: truncated data at byte 3"),
        ("a.csv", b"id,Label,label\na,b,c\n", "line 1", "has several columns 'label'"),
        ("a.jsonl", b'{"id": "a", "label": "x"}\n{"id": \n', "line 2", "is no JSON"),
        ("a.jsonl", b'{"id": "a", "label": ["x", "y"]}\n', "line 1", r'several labels: \["x", "y"\]'),
        ("a.jsonl", b'{"id": "\xe4", "label": "x"}\n', "line 1", "is not UTF-8"),
        ("a.json", b'[{"data": {"text": "x"}}]', "task 1", "has no data.document"),
        ("a.json", b'[{"data": {"document": "a"}, "annotations": [7]}]', "task 1", "is not as Label Studio exports it"),
        ("a.json", b'[{"data": {"document": "a"}, "annotations": 7}]', "task 1", "is not as Label Studio exports it"),
        ("a.json", b'["x"]', "record 1", "has no column 'id'; it has: none"),
        ("a.json", b"[" * 100_000, "a.json", "is no JSON"),
        ("a.json", json.dumps([{"data": {"document": "a"}, "annotations": [annotation("x", "y")]}]).encode(), "task 1",
         "has several labels: x, y"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, where: str, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LlmtuneError, match=message) as raised:
        read_rows(tmp_path / name)
    assert str(raised.value.where).endswith(where)
    assert name in str(raised.value.where)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LlmtuneError, match="can't be read: No such file"):
        read_rows(tmp_path / "no.csv")


@pytest.mark.parametrize("text", ["", "spam", "spam,", "spam,spam", "spam,h\nam"])
def test_labels_that_are_refused(text: str) -> None:
    with pytest.raises(LlmtuneError, match="two or more different labels"):
        labels_in(text)


def test_a_damaged_export(tmp_path: Path) -> None:
    (tmp_path / "asked.json").write_text('{"labels": ["a"], "items": [{"id": 1}]}')
    with pytest.raises(BadArtifact, match="damaged: KeyError"):
        read_asked(tmp_path)

"""Each reader against files written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmtune.corpus.readers import FORMATS, format_of, reader_of
from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.reader import RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Format, Source

from .conftest import read


def test_every_format_of_the_recipe_has_a_reader() -> None:
    assert set(get_args(Format)) - {"auto"} == set(FORMATS)
    for format in FORMATS:
        assert callable(reader_of(format).read)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.MD", "markdown"),
        ("a.html", "html"),
        ("a.bin", None),
        ("b.gz", None),
    ],
)
def test_suffixes(name: str, format: str | None) -> None:
    assert format_of(Path(name)) == format


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "binary file"),
        ("naïve café".encode("latin-1"), "wrong encoding"),
    ],
)
def test_files_without_text(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(Unreadable) as caught:
        read_text(path, "utf-8")
    assert caught.value.reason == reason


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_wins(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("naïve 漢字".encode(encoding))
    assert read_text(path, "latin-1") == "naïve 漢字"


def test_encoding_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("naïve".encode("cp1252"))
    assert read(path, "text", encoding="windows-1252") == [RawDocument(text="naïve")]


def test_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown text encoding 'utf9'"):
        Source(path=Path("a"), encoding="utf9")


TURNS = [("user", "Why?"), ("assistant", "Because.")]


def turns(document: RawDocument | Rejected) -> list[tuple[str, str]]:
    assert isinstance(document, RawDocument)
    assert document.messages is not None
    return [(turn.role, turn.content) for turn in document.messages]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [{"role": role, "content": content} for role, content in TURNS]}, TURNS),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
                    {"role": "assistant", "content": "Because."},
                ]
            },
            TURNS,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": {"value": "Why?", "annotations": []}}]},
                    {"role": "assistant", "content": "Because."},
                ],
                "system": None,
            },
            TURNS,
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}],
                "system": "Be.",
            },
            [("system", "Be."), *TURNS],
        ),
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, [("user", "Add.\n\n1 2"), ("assistant", "3")]),
        ({"instruction": "Add.", "input": "", "output": "3"}, [("user", "Add."), ("assistant", "3")]),
        ({"instruction": "Add.", "input": None, "output": "3", "system": " "}, [("user", "Add."), ("assistant", "3")]),
    ],
)
def test_layouts_are_recognised(tmp_path: Path, record: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert [turns(document) for document in read(path, "jsonl")] == [expected]


def test_column_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {
        "q": "Add.",
        "ctx": "1 2",
        "a": {"best": "3"},
        "talk": [{"who": "User", "said": "x"}, {"who": "bot", "said": "y"}],
    }
    path.write_text(json.dumps(record | {"body": "text", "head": "Title", "rights": "CC0"}))
    (alpaca,) = read(path, "jsonl", layout="alpaca", columns={"instruction": "q", "input": "ctx", "output": "a.best"})
    assert turns(alpaca) == [("user", "Add.\n\n1 2"), ("assistant", "3")]
    (talk,) = read(path, "jsonl", columns={"messages": "talk", "role": "who", "content": "said"})
    assert turns(talk) == [("user", "x"), ("assistant", "y")]
    (text,) = read(path, "jsonl", columns={"text": "body", "title": "head", "licence": "rights"})
    assert text == RawDocument("#1", "# Title\n\ntext", licence="CC0")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_all_strings_of_a_record(tmp_path: Path, name: str) -> None:
    record = {"question": "Which?", "n": 3, "choices": ["this", "that"], "more": {"answer": "this"}, "none": None}
    if name == "a.jsonl":
        (tmp_path / name).write_text(json.dumps(record))
    else:
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / name)
    (document,) = read(tmp_path / name, name[2:], layout="strings")
    assert document == RawDocument("#1", "Which?\n\nthis\n\nthat\n\nthis")


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"text": 3}', "column 'text' is of type int"),
        (b'{"text": "a"', "not JSON"),
        (b'{"body": "a"}', "the record has body"),
        (b"[1]", "expected an object"),
        (b'{"messages": [{"role": "king", "content": "a"}]}', "role 'king'"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "no turn of the assistant"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "no turn of the user"),
        (b'{"messages": "a"}', "expected a list of turns"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "expected text"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "text", "text": null}]}]}',
            "[0].content[0].text is missing",
        ),
        (b'{"messages": [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}]}', "text is missing"),
        (b'{"messages": [{"role": "user", "content": "a"}], "system": ["Be."]}', "column 'system' is of type list"),
        (b'{"instruction": "Add.", "input": 5, "output": "3"}', "column 'input' is of type int, expected text"),
        (b'{"instruction": "Add.", "output": "3", "system": {}}', "column 'system' is of type dict, expected text"),
        ('{"text": "é"}'.encode("latin-1"), "not utf-8: byte 0xe9"),
    ],
)
def test_bad_records_are_rejected_one_by_one(tmp_path: Path, line: bytes, detail: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "before"}\n' + line + b'\n\n{"text": "after"}\n')
    before, bad, after = read(path, "jsonl")
    assert (before, after) == (RawDocument("#1", "before"), RawDocument("#4", "after"))
    assert isinstance(bad, Rejected)
    assert bad.part == "#2"
    assert detail in bad.detail


def test_json_array(tmp_path: Path) -> None:
    records = [{"text": "one"}, {"text": "two"}]
    expected = [RawDocument("#1", "one"), RawDocument("#2", "two")]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    assert read(tmp_path / "a.json", "jsonl") == expected
    (tmp_path / "b.json").write_text(json.dumps(records)[:-1])
    with pytest.raises(Unreadable, match="damaged file"):
        read(tmp_path / "b.json", "jsonl")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    messages = [[{"role": role, "content": content} for role, content in TURNS], None]
    pq.write_table(pa.table({"messages": messages, "text": [None, "plain"], "noise": [1, 2]}), path)
    talk, text = read(path, "parquet")
    assert turns(talk) == TURNS
    assert text == RawDocument("#2", "plain")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Unreadable, match="damaged file"):
        read(path, "parquet")


@pytest.mark.slow
def test_python_docs_against_the_interpreter() -> None:
    import textwrap
    from pydoc_data.topics import topics

    documents = {
        raw.part: raw.text for raw in reader_of("python-docs").read(*python_docs()) if isinstance(raw, RawDocument)
    }
    assert {part.removeprefix("topic/") for part in documents if part.startswith("topic/")} == set(topics)
    assert documents["topic/assert"] == topics["assert"]
    module = documents["module/textwrap"] or ""
    assert textwrap.dedent.__doc__.split("\n")[0] in module
    assert "## `textwrap.dedent(text)`" in module
    assert "### `textwrap.TextWrapper.wrap(self, text)`" in module
    assert str.split.__doc__.split("\n")[0] in (documents["builtin/builtins"] or "")
    assert not any(
        part.startswith(("module/test.", "module/idlelib", "module/_py", "module/site-")) for part in documents
    )


def python_docs() -> tuple[Path, Source]:
    from llmtune.corpus.readers.python_docs import library

    return library(), Source(format="python-docs")


def rejected(path: Path, format: str, **settings: Any) -> list[str]:
    return [raw.detail for raw in read(path, format, **settings) if isinstance(raw, Rejected)]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, "messages[1] holds tool calls"),
        ({"content": "", "function_call": {"name": "f"}}, "messages[1] holds tool calls"),
        ({"content": " "}, "messages[1] is a turn of the assistant without content"),
        ({"content": "Because.", "tool_calls": []}, None),
    ],
)
def test_turns_that_teach_to_say_nothing_are_rejected(
    tmp_path: Path, answer: dict[str, Any], detail: str | None
) -> None:
    asked = {"role": "user", "content": "Why?"}
    said = {"role": "assistant", "content": "Because."}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": [asked, {"role": "assistant", **answer}, asked, said]}))
    found = rejected(path, "jsonl")
    assert (detail is None) == (not found)
    assert all(str(detail) in text for text in found)


def test_an_empty_licence_cell_leaves_it_to_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "rights": rights}) + "\n" for rights in (None, " ", "CC0")))
    documents = read(path, "jsonl", columns={"licence": "rights"}, licence="MIT")
    assert [raw.licence for raw in documents if isinstance(raw, RawDocument)] == [None, None, "CC0"]


def test_parquet_with_strings_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = pa.array([b"one", "naïve".encode("latin-1"), b"three"], pa.binary())
    pq.write_table(pa.table({"text": words.cast(pa.string(), safe=False)}), path)
    one, bad, three = read(path, "parquet")
    assert (one, three) == (RawDocument("#1", "one"), RawDocument("#3", "three"))
    assert isinstance(bad, Rejected)
    assert (bad.reason, bad.part) == ("wrong encoding", "#2")
    assert "byte 0xef" in bad.detail


def test_parquet_with_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["some words " * 50] * 40}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="damaged file: not readable as Parquet"):
        read(path, "parquet")


def test_json_with_one_object(tmp_path: Path) -> None:
    record = {"text": "one", "more": {"a": 1}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(record, indent=1))
    assert read(path, "jsonl") == [RawDocument("#1", "one")]
    path.write_text(json.dumps(record) + "\n" + json.dumps({"text": "two"}))  # lines, whatever the name says
    assert read(path, "jsonl") == [RawDocument("#1", "one"), RawDocument("#2", "two")]


@pytest.mark.parametrize("codec", ["hex", "rot13", "base64"])
def test_codecs_that_are_not_of_text_are_refused(codec: str) -> None:
    with pytest.raises(ValueError, match="unknown text encoding"):
        Source(path=Path("a"), encoding=codec)

"""CSV: against Python's own writer, by property, and rows that are wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtune.corpus.estimate import estimate
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.delimited import delimiter_of
from llmtune.corpus.readers.reader import RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import CorpusSettings, Source


def read(path: Path, **settings: Any) -> list[RawDocument | Rejected]:
    return list(reader_of("csv").read(path, Source(path=path, format="csv", **settings)))


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), min_size=1, max_size=30)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_what_a_writer_wrote_is_read(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(file.getvalue().encode())
    kept = [(number, text) for number, (id, text) in enumerate(rows, 1) if id.strip() or text.strip()]
    expected: list[RawDocument | Rejected] = [RawDocument(f"#{number}", text) for number, text in kept]
    assert read(path) == expected


@pytest.mark.parametrize(
    ("first", "delimiter"),
    [("id,text", ","), ("id;text;title, long", ";"), ("a\tb\tc", "\t"), ('"x;y"|text', "|"), ("text", ","), ("", ",")],
)
def test_the_delimiter_is_told_by_the_first_row(first: str, delimiter: str) -> None:
    assert delimiter_of(first) == delimiter


def test_columns_titles_licences_and_a_delimiter_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("subject~body~rights\nOne~first~CC0\n~second~\n")
    columns = {"text": "body", "title": "subject", "licence": "rights"}
    assert read(path, columns=columns, delimiter="~") == [
        RawDocument("#1", "# One\n\nfirst", licence="CC0"),
        RawDocument("#2", "second"),
    ]
    with pytest.raises(Unreadable, match=r"none of its columns is known: subject~body~rights \(say which"):
        read(path, columns=columns)


def test_instructions(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('instruction,input,output\nWhy?,,Because.\n"Add, please",1 2,3\n')
    first, second = read(path)
    assert isinstance(first, RawDocument)
    assert [(turn.role, turn.content) for turn in first.messages or ()] == [("user", "Why?"), ("assistant", "Because.")]
    assert isinstance(second, RawDocument)
    assert (second.messages or ())[0].content == "Add, please\n\n1 2"


def test_rows_that_are_wrong_are_rejected_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,one\n2\n3,three,more\n\n4,\n5,five\n")
    one, short, long, empty, five = read(path)
    assert (one, empty, five) == (RawDocument("#1", "one"), RawDocument("#5", ""), RawDocument("#6", "five"))
    assert isinstance(short, Rejected)
    assert (short.part, short.reason) == ("#2", "malformed record")
    assert short.detail == "1 cells, where the first row names 2 columns"
    assert isinstance(long, Rejected)


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("name\tbody\na\tb\n")
    with pytest.raises(Unreadable, match=r"damaged file: none of its columns is known: name, body \(say which"):
        read(path)


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung."
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        path.write_bytes(f"text;id\r\n{text};1\r\n".encode(encoding))
        assert read(path) == [RawDocument("#1", text)]
    path.write_bytes(b"text\nplain\n" + "naïve".encode("cp1252") + b"\n")
    with pytest.raises(Unreadable, match="wrong encoding: not utf-8: byte 0xef"):
        read(path, encoding="utf-8")


def test_a_quote_that_nobody_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.corpus.readers.delimited._LARGEST_CELL", 1000)
    path = tmp_path / "a.csv"
    path.write_text('text\nfirst\n"second\n' + "more\n" * 400)
    found = reader_of("csv").read(path, Source(path=path))
    assert next(iter(found)) == RawDocument("#1", "first")
    with pytest.raises(Unreadable, match="damaged file: not readable as CSV: field larger"):
        list(found)


def test_how_many_lines_such_a_quote_took_in(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,id\n"in two\nlines",1\n"second,2\n' + "more,3\n" * 40 + '"end",4,5\n')
    first, second = read(path)
    assert first == RawDocument("#1", "in two\nlines")
    assert isinstance(second, Rejected)
    assert second.detail.endswith("2 columns; it takes in 42 lines: a quote may not be closed")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_quote_that_is_open_at_the_end(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f'\nid,text\n1,first\n2,"second\n3,third\n4,fourth{end}'.encode())
    first, second = read(path)
    assert first == RawDocument("#1", "first")
    detail = "a quote is not closed: the record from line 4 on takes in all 3 that are left"
    assert second == Rejected("#2", "malformed record", detail)
    path.write_bytes(f'"id,text\n1,first{end}'.encode())
    with pytest.raises(Unreadable, match="damaged file: a quote in its first row is not closed"):
        read(path)
    path.write_bytes(f'id,text\n1,"first\nand ""last"""{end}'.encode())
    assert read(path) == [RawDocument("#1", 'first\nand "last"')]


def test_the_last_character_of_unicode_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\none\n\U0010ffff\ntwo \U0010ffff\nthree\n", encoding="utf-8")
    assert [raw.text for raw in read(path) if isinstance(raw, RawDocument)] == [
        "one", "\U0010ffff", "two \U0010ffff", "three"
    ]  # fmt: skip


def test_a_column_that_is_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,note,note,text\none,,,two\n")
    with pytest.raises(Unreadable, match="damaged file: its first row names the column 'text' 2 times"):
        read(path)
    path.write_text("text,note,note\none,a,b\n")
    assert read(path) == [RawDocument("#1", "one")]
    with pytest.raises(Unreadable, match="the column 'note' 2 times"):
        read(path, layout="strings")
    path.write_text("text,,\none,a,b\n")
    assert read(path, layout="strings") == [RawDocument("#1", "one\n\na\n\nb")]


def test_a_plan_knows_the_rows_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    row = "1," + "word " * 20 + "\n"
    path.write_text("id,text\n" + row * 20_000)
    found = estimate(CorpusSettings(sources=[{"path": path}]))
    assert found.problems == []
    assert 18_000 < found.documents < 22_000
    assert 18_000 * 100 < found.characters < 22_000 * 100


def test_a_delimiter_is_for_csv() -> None:
    with pytest.raises(ValueError, match="'delimiter' is for csv; format 'jsonl' has none"):
        Source(path=Path("a"), format="jsonl", delimiter=";")
    with pytest.raises(ValueError, match="at most 1 char"):
        Source(path=Path("a"), delimiter=";;")

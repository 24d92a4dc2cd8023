"""Each reader against files written by hand."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.corpus.readers import FORMATS, format_of, jsonl, reader_of
from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.html import declared_encoding, page_of
from llmtune.corpus.readers.markdown import markdown_text
from llmtune.corpus.readers.reader import Piece, PieceReader, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Format, Source


def read(path: Path, format: str, **settings: Any) -> list[RawDocument | Rejected]:
    return list(reader_of(format).read(path, Source(path=path, format=format, **settings)))


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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("fast<br>slow<br />auto<br>\nend", "fast slow auto\nend"),
        ("<ul><li>alpha</li><li>be<b>t</b>a</li></ul>", "alpha beta"),
        ("<tr><td>A1</td><td>`B1`</td> <td>C</td></tr>", "A1 `B1` C"),
        ("10<sup>6</sup>, 2<SUP>31</SUP>-1, (a)<sup>n</sup>", "10^6, 2^31-1, (a)^n"),
        ("5<sup>th</sup> Arm<sup>&reg;</sup> x <sup>small</sup> y<sup>z", "5th Arm® x small y<sup>z"),
        ("https://h/x?id=1&section=2&copy=3, f(&region)", "https://h/x?id=1&section=2&copy=3, f(&region)"),
        ("R&amp;D &#65;&#x42; &notin; &notes; &lt", "R&D AB ∉ &notes; &lt"),
        ("[Note]:\n\nImportant", "[Note]:\n\nImportant"),
        ("a\n\n[b]: c\n\n(d)", "a\n\n\n(d)"),
        ("a\n\n[b]:\n  c\n  (d)", "a"),
    ],
)
def test_markdown_keeps_words_numbers_and_addresses_apart(source: str, expected: str) -> None:
    assert markdown_text(source) == expected


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


MARKDOWN = """---
title: "How to *sail*"
tags: [a]
---
[![build](https://ci/badge.svg)](https://ci) <!-- hidden
comment -->
See [the *guide*](guide.md "Guide") and [ref][1], ![picture](a.png), `[code](kept)`, a &lt; b.
<div align="center">Centred<br></div> but List<String> stays

```html
<a href="x">[kept](as is)</a> <!-- kept -->
```

    indented [code](kept)

[1]: https://example.com "Example"
- item with [link](x)
"""


def test_markdown() -> None:
    text = markdown_text(MARKDOWN)
    assert text.startswith("# How to *sail*\n")
    assert "See the *guide* and ref, , `[code](kept)`, a < b." in text
    assert "Centred but List<String> stays" in text
    assert '```html\n<a href="x">[kept](as is)</a> <!-- kept -->\n```' in text
    assert "    indented [code](kept)" in text
    assert "- item with link" in text
    assert not any(gone in text for gone in ("hidden", "badge", "tags:", "picture", "example.com", "align"))


def test_markdown_keeps_its_own_heading_over_the_title() -> None:
    assert markdown_text("+++\ntitle = 'A'\n+++\n# B\ntext") == "# B\ntext"
    assert markdown_text("---\ntitle: A\n---\nB\n===\ntext") == "B\n===\ntext"
    assert markdown_text("---\n# comment\n\ndate: 1\n---\nb") == "b"
    assert markdown_text("---\nbetween rules\n---\nb") == "---\nbetween rules\n---\nb"


PAGE = """<!doctype html><html><head><title>VACUUM</title><style>p{}</style></head><body>
<nav><a href="/">Home</a></nav><div class="navheader">Prev Up Next</div><header>Site name</header>
<div class="refentry note-header"><h2>VACUUM</h2><a class="headerlink" href="#v">¶</a>
<p>Reclaims   <em>storage</em>,
see <a href="b.html">other</a> and <code>a &lt; b</code>.</p>
<pre class="language-SQL">SELECT 1
    FROM t  WHERE a &lt; 2;
</pre>
<table><tr><th>Name</th><th>Use</th></tr><tr><td>a|b</td><td>one<br>two</td></tr><tr><td>c</td></tr></table>
<ul><li>one<ul><li>deep</li></ul></li><li><p>two</p><p>more</p></li></ul><ol start="3"><li>x</li></ol>
<dl><dt>term</dt><dd>what it means</dd></dl>
<blockquote><p>said</p></blockquote><p hidden>hidden</p><script>var x = "script";</script>loose
</div><div class="navfooter">Prev Up Next</div><footer>Imprint</footer></body></html>"""


def test_html() -> None:
    assert page_of(PAGE)[0].split("\n\n") == [
        "## VACUUM",
        "Reclaims storage, see other and `a < b`.",
        "```sql\nSELECT 1\n    FROM t  WHERE a < 2;\n```",
        "| Name | Use |\n| --- | --- |\n| a\\|b | one two |\n| c |  |",
        "- one\n  - deep\n- two",
        "  more",
        "3. x",
        "term\nwhat it means",
        "> said",
        "loose",
    ]


def test_html_main_element_title_and_menus() -> None:
    menu = "".join(f'<li><a href="{n}">Chapter {n}</a></li>' for n in range(9))
    page = (
        f"<title>Guide</title><body><div><ul>{menu}</ul></div><main><header><p>Intro</p></header>"
        f"<p>{'content ' * 20}</p></main><aside>adverts</aside>"
    )
    assert page_of(page)[0] == f"# Guide\n\nIntro\n\n{('content ' * 20).strip()}"


def test_html_without_anything_in_it() -> None:
    assert page_of("")[0] == ""
    assert page_of("<html><body><nav>only menu</nav></body></html>")[0] == ""


def test_html_nested_beyond_reason_is_still_read() -> None:
    assert "deep inside" in page_of("<div>" * 3000 + "deep inside" + "</div>" * 3000)[0]


@pytest.mark.parametrize("tag", ["ul", "dl"])
def test_html_lists_nested_beyond_reason_are_still_read(tag: str) -> None:
    for text in ("", "text"):
        page = f"<body><p>before</p>{f'<{tag}>{text}' * 3000}deep{f'</{tag}>' * 3000}<p>after</p>"
        read = page_of(page)[0]
        assert read.startswith("before")
        assert read.endswith("after")


def test_html_definitions_nested_beyond_reason_are_still_read() -> None:
    page = f"<body><p>before</p><dl>{'<div>' * 3000}<dt>term</dt><dd>meaning</dd>{'</div>' * 3000}</dl><p>after</p>"
    assert "before" in page_of(page)[0]
    assert "after" in page_of(page)[0]


def test_html_that_names_no_encoding_is_read_as_the_source_says(tmp_path: Path) -> None:
    """Pages made by scripts say so, and Python knows a codec of that name, which refuses everything."""
    page = tmp_path / "a.html"
    page.write_text("<html><head><meta charset=undefined></head><body><p>naïve</p></body></html>")
    assert declared_encoding(page.read_bytes()) is None


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-8", "shift_jis"])
def test_html_declared_encoding(tmp_path: Path, charset: str) -> None:
    words = {"iso-8859-1": "naïve “quoted”", "utf-8": "naïve 漢字", "shift_jis": "漢字"}[charset]
    path = tmp_path / "a.html"
    path.write_bytes(
        f"<html><head><meta charset='{charset}'></head><body><p>{words}</p></body></html>".encode(
            "cp1252" if charset == "iso-8859-1" else charset
        )
    )
    assert read(path, "html") == [RawDocument(text=words)]


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


def in_pieces(path: Path, format: str, size: int) -> tuple[list[RawDocument | Rejected], list[Piece]]:
    """What is read piece by piece, and the pieces."""
    reader, source = reader_of(format), Source(path=path)
    assert isinstance(reader, PieceReader)
    pieces = list(reader.pieces(path, source, size))
    return [raw for piece in pieces for raw in reader.read_piece(path, source, piece)], pieces


LINE = st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=60))
ODD_LINE = st.sampled_from([b"", b" ", b"\r", b"{bad", b"\xff\xfe", b"\xef\xbb\xbf" + b'{"text": "a"}', b"1" * 300])


@given(
    st.lists(LINE | ODD_LINE, min_size=1, max_size=40),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\n\n"]),
    st.integers(2, 200),
)
def test_pieces_of_lines_are_the_whole(lines: list[bytes], end: bytes, last: bytes, size: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_LONGEST", 250)
        path = Path(folder, "a.jsonl")
        path.write_bytes(data := b'{"text": "first"}\n' + end.join(lines) + last)
        read_so, pieces = in_pieces(path, "jsonl", size)
        assert read_so == read(path, "jsonl")
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == len(data)
    for piece in pieces:
        assert piece.first == data[: piece.start].count(b"\n") + 1
        assert piece.start == 0 or data[piece.start - 1 : piece.start] == b"\n"
        lines_of_it = data[piece.start : piece.end].splitlines(keepends=True)
        assert piece.end - piece.start <= size + max(map(len, lines_of_it))
        assert piece is pieces[-1] or piece.end - piece.start > size // 2


@pytest.mark.parametrize(
    "data", [b'[{"text": "a"}]', '{"text": "a"}\n'.encode("utf-16"), b'{"text":\n "a"}', b"\0\0\0\n", b""]
)
def test_what_is_not_read_by_lines_has_no_pieces(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert in_pieces(path, "jsonl", 4) == ([], [])


def test_pieces_of_parquet_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    random_ = random.Random(6)
    texts = [None if number % 9 == 0 else random_.randbytes(40).hex() * (number % 4) for number in range(300)]
    table = pa.table({"noise": range(300), "text": texts})
    pq.write_table(table, path, row_group_size=7)
    whole = read(path, "parquet")
    assert len(whole) == 300
    assert len(in_pieces(path, "parquet", 1)[1]) == 1  # for so large a footer
    monkeypatch.setattr("llmtune.corpus.readers.parquet._OF_FOOTER", 0)
    for size, least in ((1, 43), (2000, 5), (10**9, 1)):
        read_so, pieces = in_pieces(path, "parquet", size)
        assert read_so == whole
        assert len(pieces) >= least
        assert [group for piece in pieces for group in piece.groups] == list(range(43))
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert {piece.footer for piece in pieces} == {pieces[-1].end}
        footer = pq.read_metadata(io.BytesIO(b"PAR1" + path.read_bytes()[pieces[-1].end :]))
        assert footer.equals(pq.read_metadata(path))
    pq.write_table(table.select(["noise"]), path, row_group_size=7)
    assert in_pieces(path, "parquet", 1) == ([], [])  # none of its columns is known


def test_damage_in_parquet_costs_the_rest_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.corpus.readers.parquet._OF_FOOTER", 0)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["some words " * 50] * 40}), path, compression="zstd", row_group_size=10)
    _, pieces = in_pieces(path, "parquet", 1)
    data = bytearray(path.read_bytes())
    data[pieces[1].start : pieces[1].start + 56] = b"\xff" * 56
    path.write_bytes(data)
    found, _ = in_pieces(path, "parquet", 1)
    (bad,) = [raw for raw in found if isinstance(raw, Rejected)]
    assert (bad.part, bad.reason) == ("#11", "damaged file")
    assert [raw.part for raw in found] == [f"#{number}" for number in (*range(1, 12), *range(21, 41))]


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


@pytest.mark.parametrize(
    ("said", "written", "words"),
    [
        ("utf-16", "utf-8", "naïve 漢字"),
        ("gb2312", "gb18030", "镕 €"),
        ("x-sjis", "cp932", "①漢字"),
        ("ks_c_5601-1987", "cp949", "똠방"),
    ],
)
def test_html_encodings_mean_what_browsers_take_them_for(tmp_path: Path, said: str, written: str, words: str) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(f"<meta charset='{said}'><p>{words}</p>".encode(written))
    assert read(path, "html") == [RawDocument(text=words)]


@pytest.mark.parametrize(
    "frame",
    ["<form id=aspnetForm>{}</form>", '<div class="layout sidebar-left">{}</div>', '<div aria-hidden="true">{}</div>'],
)
def test_html_frames_around_everything_are_no_furniture(frame: str) -> None:
    menu = "".join(f'<a href="{n}">Chapter {n}</a> ' for n in range(40))
    search = "<form action=search>Search <input name=q></form>"
    side = f'<div class="sidebar">Contents {menu}</div>'
    page = frame.format(f"{side}{search}<p>{'content ' * 20}</p>")
    assert page_of(page)[0] == ("content " * 20).strip()


@pytest.mark.parametrize(
    "section",
    [
        '<section id="pagination"><h2>2.1. Pagination<a class="headerlink" href="#pagination">¶</a></h2>{}</section>',
        '<div class="section" id="site-navigation"><span id="nav"></span><h2>Site navigation</h2>{}</div>',
        '<div class="sect1" id="search-form"><div class="titlepage"><h2 class="title">Search form</h2></div>{}</div>',
        '<h2 id="navigation"><a class="header" href="#navigation">Navigation</a></h2>{}',
        '<h2><a class="anchor" id="sidebar"></a>Sidebar</h2>{}',
        '<h2><a name="related" id="related">Related</a></h2>{}',
        '<dl><dt id="pager">pager</dt><dd>{}</dd></dl>',
    ],
)
def test_html_ids_made_from_titles_are_no_furniture(section: str) -> None:
    title = re.sub(r"<[^>]*>|¶", "", section.format(""))
    rest = f"<h1>Guide</h1><p>{'content ' * 40}</p>"
    read = page_of(f"<body>{rest}{section.format('<p>What it is.</p>')}")[0]
    assert read.endswith("What it is.")
    assert title in read


@pytest.mark.parametrize(
    "furniture",
    [
        '<div id="sidebar"><h3>Navigation</h3>Here are all the pages that we have</div>',
        '<div id="navigation"><h3>Navigation</h3><a href="a">Home</a> <a href="b">Documentation</a></div>',
        '<section><h2 id="table-of-contents">Table of contents</h2></section>',
        '<div id="search-form"><h2>Search form</h2><form><input name="q"> in all pages of this site</form></div>',
        '<a id="skip-to-content" href="#content">Skip to content</a>',
        '<h2 class="sr-only">Navigation</h2>',
        '<section class="related"><h2>Related</h2><p>More of this kind may be read in our shop</p></section>',
    ],
)
def test_html_furniture_under_a_title(furniture: str) -> None:
    content = ("content " * 40).strip()
    assert page_of(f"<body>{furniture}<p>{content}</p>")[0] == content


def test_html_small_elements() -> None:
    page = (
        "<p>2<sup>10</sup> bytes, x<sup>n + 1</sup>, the 5<sup>th</sup></p>"
        "<pre>one<br>two<br/>  three</pre><p><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby></p>"
    )
    assert page_of(page)[0].split("\n\n") == ["2^10 bytes, x^n + 1, the 5th", "```\none\ntwo\n  three\n```", "漢"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>Run <code>make clean<br>make  all</code> now.", "Run `make clean`\n`make all` now."),
        ("<p><kbd>Ctrl<br/>C</kbd> <q>one <b>and</b><br>two</q>", "`Ctrl`\n`C` “one and\ntwo”"),
        ("<code><div>one</div><div>two <b>x</b></div></code>", "`one`\n`two x`"),
        ("<p><code><a href=x>make</a> <i>\nall</i></code>", "`make all`"),
        ("<pre><code><div>a</div><div>  b</div></code></pre>", "```\na\n  b\n```"),
        (  # prism-react-renderer
            '<pre class="language-js"><div class="token-line"><span>a</span>\n</div>'
            '<div class="token-line">\n</div><div class="token-line"><span>b</span>\n</div></pre>',
            "```js\na\n\nb\n```",
        ),
        ("<pre>$ x\n<div>a</div>\n<div>b<br></div>\nc\n\n<p>d</p>e</pre>", "```\n$ x\na\nb\n\nc\n\nd\ne\n```"),
        ('<pre class="prettyprint"><ol><li>a\n</li><li><br></li><li>b</li></ol></pre>', "```\na\n\nb\n```"),
        ("<pre>a<div><div>b</div></div><div></div><div>c</div></pre>", "```\na\nb\nc\n```"),
        (
            "<pre><section>a</section><section>b</section><h3>T</h3>x;<dl><dt>t<dd>u</dl></pre>",
            "```\na\nb\nT\nx;\nt\nu\n```",
        ),
        ("<pre><table><tr><td>1<td>a = 2<tr><td><td>b</table></pre>", "```\n1\ta = 2\nb\n```"),
    ],
)
def test_html_lines_of_code(page: str, expected: str) -> None:
    assert page_of(f"<body>{page}")[0] == expected


def test_html_code_that_is_never_closed_holds_no_blocks() -> None:
    page = "<ol><li><p>In <code>/x</p></li>\n<li><p>two</p></li></ol>\n<h2>Title</h2>\n<p>words</p><pre>x\n  y</pre>"
    read = page_of(f"<body>{page}")[0]
    assert read.split("\n\n") == ["1. In `/x`\n2. two", "## Title", "words", "```\nx\n  y\n```"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<ul>Indented <i>text</i>, <a href=x>old</a>.</ul>", "Indented text, old."),
        ("<ul>\nloose <b>text</b><li>item</li>tail</ul>", "loose text\n\n- item\n\ntail"),
        ("<ol>loose<li>one</li>more<li>two</li></ol>", "loose\n\n1. one\n\nmore\n\n2. two"),
        ("<ul><li>a<ul>loose<li>b</ul><li>c</ul>", "- a\n\n  loose\n\n  - b\n- c"),
        ("<div class=list><ul><a href=a>one</a><a href=b>two</a></ul></div>", "- one\n- two"),  # Bootstrap
        ("<ul><li>a</li><pre>b\n  c</pre></ul>", "- a\n- ```\n  b\n    c\n  ```"),
        ("<ol start=99999999999999999999><li>x</ol>", "1. x"),
        ("<dl>Loose <b>words</b><dt>T<dd>D<pre>a\n  b</pre></dl>", "Loose words\n\nT\nD\n\n```\na\n  b\n```"),
        (
            "<dl><dt>T</dt><pre>a\n  b</pre><div><dt>S</dt>what it is</div></dl>",
            "T\n\n```\na\n  b\n```\n\nS\nwhat it is",
        ),
    ],
)
def test_html_in_lists_without_an_item(page: str, expected: str) -> None:
    assert page_of(f"<body>{page}")[0] == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (  # PostgreSQL's manual, CREATE POLICY
            "<thead><tr><th rowspan=2>Command<th>SELECT<th colspan=2>UPDATE<tr><th>a<th>b<th>c</thead>"
            "<tr><td>x<td>1<td>2<td>3",
            ["Command|SELECT|UPDATE|", "|a|b|c", "x|1|2|3"],
        ),
        ("<tr><td rowspan=3>a<td>b<tr><td>c<tr><td>d<tr><td>e<td>f", ["a|b", "|c", "|d", "e|f"]),
        ("<tr><td>a<td rowspan=2>b<td>c<tr><td>d<td>e", ["a|b|c", "d||e"]),
        (
            "<tr><td>a<td rowspan=2 colspan=2>b<td>c<tr><td>d<td>e<tr><td>f<td>g<td>h<td>i",
            ["a|b||c", "d|||e", "f|g|h|i"],
        ),
        ("<thead><tr><th rowspan=2>a<th>b</thead><tbody><tr><td>c<td>d", ["a|b", "c|d"]),  # it ends with its group
        ("<tr><td rowspan=0>a<td>b<tr><td>c<tr><td>d", ["a|b", "|c", "|d"]),
        ("<tr><td colspan=2>a<td>b<tr><td colspan=2>c<td>d", ["a|b", "c|d"]),
        ("<tr><td colspan=100000000 rowspan=100000000>a<td>b<tr><td>c<td>d", ["a|||b", "|c|d|"]),
        ("<tr><td colspan=-1>a<td rowspan=x>b<tr><td colspan='" + "9" * 5000 + "'>c<td>d", ["a|b", "c|d"]),
    ],
)
def test_html_cells_that_span(rows: str, expected: list[str]) -> None:
    table = page_of(f"<body><table>{rows}</table>")[0].split("\n")
    del table[1]
    assert [line.replace(" ", "").removeprefix("|").removesuffix("|") for line in table] == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            "<table><tr><td><p>--fast</p>since 2.0<td>Runs<div>quickly</div>and well",
            "| --fast since 2.0 | Runs quickly and well |\n| --- | --- |",
        ),
        ("<h2><div>Chapter 1</div>Start</h2>", "## Chapter 1 Start"),
        ("<dl><dt><p>term</p>(old)<dd>x</dl>", "term (old)\nx"),
        ("<h3><span><span><div>One</div></span>tail</span></h3>", "### One tail"),
    ],
)
def test_html_what_is_behind_a_block_in_a_line_stays_apart(page: str, expected: str) -> None:
    assert page_of(f"<body>{page}")[0] == expected


def test_a_table_inside_a_table_keeps_its_caption() -> None:
    page = "<table><tr><td>outer<table><caption>CAP</caption><tr><td>a<td>b</table><td>z</table>"
    assert page_of(f"<body>{page}")[0].count("CAP") == 1


def test_a_table_of_very_many_columns_does_not_fill_the_memory() -> None:
    page = "<table><tr>" + "<td>x" * 500 + "<tr><td>y" * 500
    assert len(page_of(f"<body>{page}")[0]) < 5000


def test_html_cells_that_span_everything_take_no_time() -> None:
    rows = "<tr>" + "<td colspan=1000 rowspan=1000>a" * 1000
    assert page_of(f"<body><table>{rows * 3}</table>")[0].count("a") == 3000


@pytest.mark.parametrize(("name", "first"), [("a.xhtml", ""), ("a.html", '<?xml version="1.0" encoding="UTF-8"?>\n')])
def test_empty_elements_of_xhtml_end(tmp_path: Path, name: str, first: str) -> None:
    page = (
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script type="text/javascript" src="a.js"/>\n'
        '<link rel="up" href="b" /></head><body><h1><a id="top"/>Waiting</h1><iframe src="v"/><p>one<br/>a/>b <i />two'
        '<img alt="x > y" src="c"/></p><textarea\nname="x"/><p title="&lt;">three</p></body></html>'
    )
    (tmp_path / name).write_text(first + page)
    assert read(tmp_path / name, "html") == [RawDocument(text="# Waiting\n\none\na/>b two\n\nthree")]


def test_scripts_of_xhtml_stay_as_they_are(tmp_path: Path) -> None:
    script = "<script>document.write('<script src=\"a.js\"/>'); var leaked = 1;</script>"
    (tmp_path / "a.xhtml").write_text(f"<?xml?><html><head>{script}</head><body><p>text</p></body></html>")
    assert read(tmp_path / "a.xhtml", "html") == [RawDocument(text="text")]


def test_empty_elements_of_html_begin(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>a<q/>b</p>")
    assert read(tmp_path / "a.html", "html") == [RawDocument(text="a“b”")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A vector<a> and an Option<p>.", "A vector<a> and an Option<p>."),
        ("H<sub>2</sub>O, a<br>b, <b>bold</b>, x<a href='y'>z</a>", "H2O, a b, bold, xz"),
        ("array[i](x) and array[i][j](y)", "array[i](x) and array[i][j](y)"),
        ("[text](page) and word[note](#fn) and [a](b.md)[c](d.md)", "text and wordnote and ac"),
        ("```x``` is code\n\n[a](b.md)", "```x``` is code\n\na"),
        ("```py\n[a](b.md)\n```", "```py\n[a](b.md)\n```"),
    ],
)
def test_markdown_leaves_code_in_prose_alone(source: str, expected: str) -> None:
    assert markdown_text(source) == expected


def test_markdown_front_matter_of_blank_lines_is_read_in_one_pass() -> None:
    """Nested repetition of white space would never end here."""
    assert markdown_text("---\n" + "\n  " * 5000 + "!\n---\ntext").endswith("text")


def test_comments_of_markdown_are_looked_at_once() -> None:
    assert markdown_text("a <!-- x\ny --> b <!-- c") == "a  b <!-- c"
    assert markdown_text("<!-- " * 100_000).startswith("<!--")


CC = "https://creativecommons.org/licenses/by-sa/4.0/"


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        (f'<link rel="license" href="{CC}">', "CC-BY-SA-4.0"),
        (f'<a rel="nofollow license" href="{CC}deed.de">so</a>', "CC-BY-SA-4.0"),
        ('<a rel="license" href="http://creativecommons.org/publicdomain/zero/1.0/">x</a>', "CC0-1.0"),
        ('<a rel="license" href="https://opensource.org/licenses/MIT">x</a>', "MIT"),
        ('<a rel="license" href="https://spdx.org/licenses/Apache-2.0.html">x</a>', "Apache-2.0"),
        (f'<a rel="license" href="{CC}">x</a><a rel="license" href="https://opensource.org/licenses/MIT">y</a>', None),
        ('<a rel="license" href="/legal.html">Legal</a>', None),
        (f'<a href="{CC}">a picture</a>', None),
        ('<meta name="license" content="GFDL-1.3">', "GFDL-1.3"),
        ('<meta name="DC.rights" content="Copyright 2020 by Jane Doe">', None),
        (f'<meta name="DC.rights" content="Some rights reserved: {CC}">', "CC-BY-SA-4.0"),
    ],
)
def test_the_licence_that_a_page_names(tmp_path: Path, head: str, licence: str | None) -> None:
    (tmp_path / "a.html").write_text(
        f"<html><head><title>T</title></head><body>{head}<p>{'text ' * 30}</p></body></html>"
    )
    (document,) = list(reader_of("html").read(tmp_path / "a.html", Source(path=tmp_path)))
    assert isinstance(document, RawDocument)
    assert document.licence == licence


@pytest.mark.parametrize(
    ("matter", "licence"),
    [
        ("license: MIT", "MIT"),
        ("Licence: 'CC BY 4.0'", "CC BY 4.0"),
        (f"license: {CC}", "CC-BY-SA-4.0"),
        ("license: Apache 2.0 (https://apache.org/a)  # see there", "Apache 2.0 (https://apache.org/a)"),
        ("license: https://www.gnu.org/licenses/fdl-1.3.html", "https://www.gnu.org/licenses/fdl-1.3.html"),
        ("license: |\n  much", None),
        ("license: null", None),
        ("license: [a, b]", None),
        ("a: b", None),
    ],
)
def test_the_licence_in_front_matter(tmp_path: Path, matter: str, licence: str | None) -> None:
    (tmp_path / "a.md").write_text(f"---\ntitle: T\n{matter}\n---\ntext")
    (document,) = list(reader_of("markdown").read(tmp_path / "a.md", Source(path=tmp_path)))
    assert document == RawDocument(text="# T\n\ntext", licence=licence)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0, 1) is half-open.\n\nwords\n\nlist[int]: done", "[0, 1) is half-open.\n\nwords\n\nlist[int]: done"),
        ("a\n\n[a\nb]: http://x\n\nc", "a\n\n\nc"),
        ("---\ntitle: >\n  folded\n---\nbody", "body"),
    ],
)
def test_markdown_definitions_end_with_their_paragraph(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


def test_bare_tags_of_markdown_are_looked_at_in_one_pass() -> None:
    assert markdown_text("a<b> " * 40_000).count("<b>") == 40_000

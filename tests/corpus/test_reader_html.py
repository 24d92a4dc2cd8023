"""HTML: what is read of a page, and what is no part of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.html import declared_encoding, page_of
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source

from .conftest import read

CC = "https://creativecommons.org/licenses/by-sa/4.0/"


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
        ('<meta name="DC.rights" content="https://acme.com/about">', None),
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

"""Markdown: what is furniture of the file, and what stays to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.markdown import markdown_text
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source

CC = "https://creativecommons.org/licenses/by-sa/4.0/"


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

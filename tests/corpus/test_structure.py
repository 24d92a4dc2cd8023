"""Pairs of name and description, read back from the text that the readers make, against the documents themselves."""

from __future__ import annotations

import pytest
from selectolax.lexbor import LexborHTMLParser

from llmtune.corpus.readers.html_blocks import blocks_text
from llmtune.corpus.readers.markdown import markdown_text
from llmtune.corpus.structure import DEFINITIONS, HEADINGS, ITEMS, TABLE, Pair, pair_lists

SENTENCES = (
    "Sets the amount of memory that sorting may use before it goes to disk.",
    "Removes rows that no transaction can see any more, and gives their space back.",
    "The planner's idea of what a page costs that is read out of order.",
    "Longest time that a statement may wait for a lock on a table or row.",
)
NAMES = ("work_mem", "vacuum", "random_page_cost", "lock_timeout")
PAIRS = list(zip(NAMES, SENTENCES, strict=True))
EXPECTED = [Pair(*one) for one in PAIRS]


def html(text: str) -> str:
    body = LexborHTMLParser(f"<body>{text}</body>").body
    assert body is not None
    return blocks_text(body)


def found(text: str, kind: str) -> list[Pair]:
    (one,) = [each for each in pair_lists(text) if each.kind == kind]
    return one.pairs


def test_a_definition_list_of_html_is_read_back() -> None:
    """With a type behind the name, a second paragraph, two terms, and terms in a <div>: against the elements."""
    terms = "".join(
        f"<div><dt><code>{name}</code> (<code>integer</code>)</dt><dd><p>{text} Further words.</p><p>More of it, which "
        f"is not the first sentence.</p></dd></div>"
        for name, text in PAIRS[:2]
    ) + "".join(f"<dt><code>-x</code> <code>--{name}</code></dt><dd>{text}</dd>" for name, text in PAIRS[2:])
    page = LexborHTMLParser(f"<dl>{terms}</dl>")
    names = [term.css("code")[-1 if index > 1 else 0].text() for index, term in enumerate(page.css("dt"))]
    text = html(f"<h1>3.1. Memory</h1><p>Some words before it.</p><h2>Settings</h2><dl>{terms}</dl>")
    (one,) = pair_lists(text)
    assert (one.kind, one.title) == (DEFINITIONS, "Memory, Settings")
    assert [pair.name for pair in one.pairs] == names == ["work_mem", "vacuum", "--random_page_cost", "--lock_timeout"]
    assert [pair.description for pair in one.pairs] == list(SENTENCES)


def test_a_table_of_html_is_read_back() -> None:
    rows = "".join(f"<tr><td>{name}</td><td>int</td><td>{text}</td></tr>" for name, text in PAIRS)
    head = "<tr><th>Name</th><th>Type</th><th>Description</th></tr>"
    assert found(html(f"<h1>A</h1><table>{head}{rows}</table>"), TABLE) == EXPECTED
    cells = "".join(f"<tr><td><p><code>{name}</code> (int)</p><p>{text}</p></td></tr>" for name, text in PAIRS)
    assert found(html(f"<h1>A</h1><table>{cells}</table>"), DEFINITIONS) == EXPECTED


@pytest.mark.parametrize(
    "form",
    ["- {}: {}\n", "- **{}**: {}\n", "* `{}` — {}\n", "1. {} - {}\n", "{} -- {}\n", "  {}   {}\n", "- {}: {}\n\n"],
)
def test_lists_and_lines(form: str) -> None:
    text = "# A\n\nSome words.\n\n" + "".join(form.format(*one) for one in PAIRS)
    assert found(markdown_text(text), ITEMS) == EXPECTED


@pytest.mark.parametrize("form", ["{}\n    {}", "{}\n: {}", "{}\n{}", "{} (float)\n    {}"])
def test_definitions_in_text(form: str) -> None:
    text = "# A\n\n" + "\n\n".join(form.format(*one) for one in PAIRS)
    assert found(markdown_text(text), DEFINITIONS) == EXPECTED
    wrapped = text.replace(" that ", "\n    that ")
    if not form.endswith("\n{}"):  # lines that are not further in tell nothing of where the first of them ends
        assert found(wrapped, DEFINITIONS) == EXPECTED


def test_headings_and_their_first_sentences() -> None:
    sections = "\n\n".join(f"## `class pg.{name}(value)`\n\n{text}\nMore." for name, text in PAIRS)
    of_module, one = pair_lists(f"# Module `pg`\n\nWhat the module does, in words.\n\n{sections}")
    assert (one.kind, one.title) == (HEADINGS, "Module pg")
    assert of_module.pairs == [Pair("Module pg", "What the module does, in words.")]
    assert one.pairs == [Pair(f"pg.{name}", text) for name, text in PAIRS]
    underlined = "\n\n".join(f"{name}\n{'=' * len(name)}\n\n{text}" for name, text in PAIRS)
    assert found(f"All of it\n*********\n\n{underlined}", HEADINGS) == EXPECTED


def test_asides_are_no_sections() -> None:
    text = "# A\n\n## B\n\n### Note\n\n" + "\n\n".join(f"{name}\n{text}" for name, text in PAIRS)
    (one,) = pair_lists(text)
    assert (one.kind, one.title) == (DEFINITIONS, "A, B")


@pytest.mark.parametrize(
    "text",
    [
        "A paragraph whose lines are broken where they are full, because the\nwriter's editor did so, defines nothing.",
        "```\nwork_mem\nSets the amount of memory that sorting may use.\n```",
        "> work_mem\n> Sets the amount of memory that sorting may use.",
        "This is a sentence.\nAnd this is another one, which is longer than the one before.",
        "work_mem\n128 MB, 1 GB, 4 GB, 8 GB, 16 GB, 32 GB, 64 GB",
        "`integer` `<<` `integer`\nMoves the bits of a number to the left.",
        "| a | b |\n| --- | --- |\n",
        "",
    ],
)
def test_what_defines_nothing(text: str) -> None:
    assert pair_lists(f"# A\n\n## B\n\n{text}") == [] or pair_lists(text) == []


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("`TEMPORARY` or `TEMP`", "TEMPORARY"),
        ("`bit_length` ( `text` ) → `integer`", "bit_length"),
        ("`relname` `name`", "relname"),
        ("shutil.copy(src, dst)", "shutil.copy"),
        ("**Buffer pool**:", "Buffer pool"),
        ("__init__", "__init__"),
        ("-a, --all", "-a"),
    ],
)
def test_names(term: str, name: str) -> None:
    assert found(f"# A\n\n{term}\n{SENTENCES[0]}", DEFINITIONS) == [Pair(name, SENTENCES[0])]


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("Short. But the next sentence says what it is, in words.", None),
        ("This form is about types. It names a part of the type anew.", None),
        ("Moves what is in it, e.g. files, to another place (see Section 8.1). And so on.", "Moves what is in it, e.g. "
         "files, to another place."),
        ("返回给定字符串中的字符数，并考虑其编码方式，而不是返回该字符串所占用的字节数。第二句在这里。",
         "返回给定字符串中的字符数，并考虑其编码方式，而不是返回该字符串所占用的字节数。"),
    ],
)  # fmt: skip
def test_descriptions(text: str, description: str | None) -> None:
    assert found(f"# A\n\nname\n{text}", DEFINITIONS) == [Pair("name", description or text)]

"""reStructuredText: against hand-written text, docutils' own reading of the words, and what must never happen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from docutils import core, nodes

from llmtune.corpus.estimate import estimate
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.readers.rst import rst_text
from llmtune.corpus.settings import CorpusSettings, Source

from .conftest import Build

PAGE = """:orphan:
:Author: somebody

.. _top:

Reading files
=============

Text with *emphasis*, ``code``, `a link <https://x.example>`_, :ref:`a section <sec>`, :py:func:`~os.path.join`,
:class:`!Foo`, |sub| and a note [1]_; missing_ and `also missing`_.

.. |sub| replace:: something
.. [1] The note itself.
.. a comment
.. toctree::
   :maxdepth: 2

   a
   b

Options
-------

.. function:: open(path, mode='r', \\*args)
              open(descriptor)
   :noindex:

   Opens a *file*.

   .. versionadded:: 3.2
      The *mode* argument.

.. code-block:: Python
   :linenos:

   def f():
       return 1

.. note:: Be careful.

* one

  - nested
* two

=====  =====
A      B
=====  =====
1      2|3
=====  =====

term
  what it means

.. figure:: picture.png
   :alt: a picture

   What the picture shows.

A literal::

    here   it is
"""

TEXT = """# Reading files

Text with emphasis, `code`, a link, a section, `join`, `Foo`, something and a note ; missing and also missing.

The note itself.

## Options

`open(path, mode='r', *args)`

`open(descriptor)`

Opens a file.

New in version 3.2: The mode argument.

```python
def f():
    return 1
```

Note: Be careful.

- one
  - nested
- two

| A | B |
| --- | --- |
| 1 | 2\\|3 |

term
what it means

What the picture shows.

A literal:

```
here   it is
```"""


def test_a_page() -> None:
    assert rst_text(PAGE) == TEXT


def test_the_words_are_those_that_docutils_reads() -> None:
    """Of a page without anything that is Sphinx's."""
    raw = "\n\n".join(
        [
            "Title\n=====",
            *(f"Part {n}\n------\n\n* item *{n}*\n* more ``code``\n\n  deep\n\nWords {n}." for n in range(9)),
        ]
    )
    tree = core.publish_doctree(raw)
    theirs = [word for node in tree.findall(nodes.Text) for word in re.findall(r"\w+", node)]
    assert re.findall(r"\w+", rst_text(raw)) == theirs


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (".. strange:thing:: with words\n   :option: value\n\n   And *content*.", "`with words`\n\nAnd content."),
        (".. tip-box:: Some *words*\n\n   And content.", "Some words\n\nAnd content."),
        (
            "Press :kbd2:`Ctrl` for :who:`me <you>`, says :doc:`the guide <g>`.",
            "Press `Ctrl` for `me`, says the guide.",
        ),
        (".. deprecated:: 2.1\n\nText.", "Deprecated since version 2.1\n\nText."),
        (".. prompt:: bash\n\n   make install", "```bash\nmake install\n```"),
        (".. automodule:: secrets\n   :members:\n\nText.", "Text."),
        (".. warning::\n\n   - one\n   - two", "Warning:\n\n- one\n- two"),
        (".. admonition:: A title\n\n   The text.", "A title\n\nThe text."),
    ],
)
def test_what_docutils_does_not_know_loses_no_text(raw: str, expected: str) -> None:
    assert rst_text(raw) == expected


def test_what_is_wrong_is_left_as_it_was_written() -> None:
    assert "torn   table" in rst_text("=====  =====\ntorn   table\n=====\n\nText.")
    assert rst_text("An unclosed *emphasis and ``code.") == "An unclosed *emphasis and ``code."
    assert "The caption" in rst_text(".. figure:: a.png\n   :nonsense: 1\n\n   The caption")


def test_nothing_is_included_run_or_asked_of_the_clock(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    raw = (
        f".. include:: {secret}\n\n.. literalinclude:: {secret}\n\n.. raw:: html\n   :file: {secret}\n\n"
        f".. raw:: html\n\n   <b>raw</b>\n\n.. csv-table:: t\n   :file: {secret}\n\n"
        ".. |today| date::\n\n.. role:: r(raw)\n   :format: html\n\nIt is |today|, :r:`<i>x</i>`, and text."
    )
    text = rst_text(raw)
    assert "secret" not in text.replace(str(secret), "")
    assert "<b>" not in text
    assert not re.search(r"\d{4}-\d\d-\d\d", text)
    assert text.endswith("and text.")


@pytest.mark.parametrize(
    "raw",
    [
        "1. one\n2. .. |d| date::\n\nIt is |d|.",
        ":f: .. |d| date::\n\nIt is |d|.",
        ".. |d|\n   date:: %Y-%m-%d\n\nIt is |d|.",
    ],
)
def test_the_clock_is_asked_in_no_form(raw: str) -> None:
    text = rst_text(raw)
    assert "It is" in text
    assert not re.search(r"\d{4}-\d\d-\d\d", text)


def test_what_a_file_defines_stays_in_it() -> None:
    """docutils keeps roles for as long as the process lives; a corpus must not depend on what was read before."""
    alone = rst_text("Some :mine:`word`.")
    rst_text(".. role:: mine(strong)\n\n.. default-role:: mine\n\nSome :mine:`word` and `more`.")
    assert rst_text("Some :mine:`word`.") == alone


def test_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.rst"
    path.write_text("Title\n#####\n\nWürde und Höhe", encoding="cp1252")
    assert list(reader_of("rst").read(path, Source(path=path))) == [RawDocument(text="# Title\n\nWürde und Höhe")]


def test_lists_nested_too_deeply_cost_their_file(build: Build, folder: Path) -> None:
    """docutils would end the process."""
    (folder / "deep.rst").write_text("\n".join("   " * depth + "* x" for depth in range(300)))
    assert estimate(CorpusSettings(sources=[{"path": folder}])).documents == 20
    card = json.loads((build([{"path": folder}]).folder / "card.json").read_text())
    (dropped,) = card["dropped_named"]["damaged file"]
    assert dropped["id"] == "texts/deep.rst"
    assert dropped["detail"].startswith("docutils: RecursionError")


def test_what_a_term_is_stays_apart_from_it() -> None:
    assert rst_text("x : int\n   First.\n\n``y`` : a : *b*\n   Second.\n") == "x : int\nFirst.\n\n`y` : a : b\nSecond."


def test_a_condition_is_not_read_but_what_stands_under_it() -> None:
    assert rst_text(".. only:: html\n\n   Text.\n\n.. only:: latex\n\n.. rst-class:: x\n\nEnd.") == "Text.\n\nEnd."

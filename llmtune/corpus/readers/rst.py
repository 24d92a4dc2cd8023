"""reStructuredText: parsed by docutils, written as the Markdown-like text of all other formats.

The document tree goes through docutils' HTML writer into `html_blocks.py`, so that headings, lists, tables and code
look as they do from a web page. Nothing is included, inserted or run: the files are not trusted. Roles and directives
that docutils does not know (Sphinx's, a project's own) are registered before a file is parsed (`rst_sphinx.py`), for
docutils drops the text of what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.reader import DAMAGED, RawDocument, Unreadable
from llmtune.corpus.settings import Source
from llmtune.extras import need

_SETTINGS: dict[str, Any] = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 6,  # never: what is wrong with a file is left as it was written
    "traceback": True,  # let exceptions through: docutils else ends the process (lists nested a hundred deep)
    "doctitle_xform": False,
    "docinfo_xform": False,
    "smart_quotes": False,
    "syntax_highlight": "none",
    "math_output": "LaTeX",
    "embed_stylesheet": False,
    "initial_header_level": 1,
    "line_length_limit": 1_000_000,
    "toc_backlinks": False,
    "sectnum_xform": False,
    "cloak_email_addresses": False,
}
_DIRECTIVE = re.compile(r"\A\.\. [^\n]*::[^\n]*(?:\n[ \t]+:[^:\n]+:[^\n]*)*")
_MARKUP = re.compile(r"^(?P<ticks>`+|\*+|\|)(?P<text>.+?)(?:\s*<[^<>]*>)?(?:`+|\*+|\|)_*$", re.DOTALL)


class RstReader:
    """A file is a document."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        yield RawDocument(text=rst_text(read_text(path, source.encoding)))


def rst_text(raw: str) -> str:
    """reStructuredText without directives' options, comments, targets and references' addresses; see the head of this
    file. Raises Unreadable where docutils gives up; MissingExtra."""
    need("docutils", "reading reStructuredText")
    need("selectolax", "reading reStructuredText")
    from docutils import core
    from docutils.writers import html5_polyglot
    from selectolax.lexbor import LexborHTMLParser

    from llmtune.corpus.readers.html_blocks import blocks_text
    from llmtune.corpus.readers.rst_sphinx import known_names

    try:
        with known_names(raw):
            document = core.publish_doctree(raw, settings=copy(_settings()))
        _tidy(document)
        translator = html5_polyglot.HTMLTranslator(document)
        document.walkabout(translator)
    except Exception as error:  # a parser of 20,000 lines has faults, which must cost one file and not the corpus
        raise Unreadable(DAMAGED, f"docutils: {type(error).__name__}: {error}") from error
    body = LexborHTMLParser("".join(translator.body)).body
    return blocks_text(body) if body is not None else ""


@cache
def _settings() -> Any:
    """Of docutils' reader, parser and HTML writer; to be copied, for a file may change them."""
    from docutils.frontend import get_default_settings
    from docutils.parsers.rst import Parser
    from docutils.readers.standalone import Reader
    from docutils.writers.html5_polyglot import Writer

    settings = get_default_settings(Parser, Reader, Writer)
    vars(settings).update(_SETTINGS)
    return settings


def _tidy(document: Any) -> None:
    """Take out of the tree what is not to be read; put back what docutils could not make sense of."""
    from docutils import nodes

    for message in list(document.findall(nodes.system_message)):
        kept = [_without_directive(child) for child in message.children if isinstance(child, nodes.literal_block)]
        message.parent.replace(message, [block for block in kept if block.astext().strip()])
    for problem in list(document.findall(nodes.problematic)):  # `a reference <to>`_ that leads nowhere
        found = _MARKUP.match(problem.astext())
        text = found["text"] if found else re.sub(r"(?<=\w)__?$", "", problem.astext())
        problem.parent.replace(problem, nodes.Text(text))
    for kind in (nodes.image, nodes.footnote_reference, nodes.citation_reference, nodes.label):
        for node in list(document.findall(kind)):
            node.parent.remove(node)
    for box in list(document.findall(nodes.Admonition)):  # Note: the text
        kind = nodes.Text("" if isinstance(box, nodes.admonition) else f"{box.tagname.capitalize()}: ")
        if box.children and isinstance(box[0], nodes.paragraph):
            box[0].insert(0, kind)
        elif kind:
            box.insert(0, nodes.paragraph("", "", kind))
        box.parent.replace(box, _untitled(box))
    for classifier in document.findall(nodes.classifier):  # of a term: `x : int`
        classifier.insert(0, nodes.Text(" : "))
    for block in document.findall(nodes.literal_block):
        language = [name for name in block["classes"] if name not in ("code", "sourcecode")]
        block["classes"] = [f"lang-{language[0]}"] if language else []
    for literal in document.findall(nodes.literal):
        literal["classes"] = ["code"]  # as such the writer makes it <code>
    if document.children and isinstance(document[0], nodes.field_list):  # :orphan:, :Author: …, as front matter
        document.remove(document[0])


def _untitled(box: Any) -> list[Any]:
    """The children of a box, its title as a paragraph: a title outside a section is none."""
    from docutils import nodes

    return [
        nodes.paragraph("", "", *child.children) if isinstance(child, nodes.title) else child for child in box.children
    ]


def _without_directive(block: Any) -> Any:
    """A block that docutils could not read, without the directive's own line and options where it was one."""
    from docutils import nodes

    text = _DIRECTIVE.sub("", block.astext())
    return block if text == block.astext() else nodes.paragraph("", " ".join(text.split()))

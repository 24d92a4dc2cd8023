"""DOCX (Word): headings, paragraphs, lists, tables, code and notes as Markdown.

mammoth makes HTML of what the document's styles mean, and `html_blocks.py` Markdown of that. Deleted revisions,
comments, headers, footers, pictures and the table of contents are left out; macros are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring
from xml.parsers.expat import ExpatError

from llmtune.corpus.readers.docx_xml import readable
from llmtune.corpus.readers.reader import DAMAGED, RawDocument, Unreadable
from llmtune.corpus.readers.title import sane_title, with_title
from llmtune.corpus.readers.zipped import BROKEN, parts_of, repacked
from llmtune.corpus.settings import Source
from llmtune.extras import need

_CODE_PARAGRAPHS = (
    "Source Code", "Code", "Code Block", "HTML Preformatted", "Preformatted Text", "Plain Text", "Verbatim", "Listing",
)  # fmt: skip
_CODE_CHARACTERS = ("Verbatim Char", "HTML Code", "Code Char", "Source Text", "Inline Code")
_STYLES = "\n".join(
    [
        "p[style-name='Title'] => h1:fresh",
        "p[style-name^='toc '] => !",
        "p[style-name^='TOC '] => !",
        "br[type='page'] => br",
        "br[type='column'] => br",
        "p[style-name='Quote'] => blockquote:fresh",
        "p[style-name='Intense Quote'] => blockquote:fresh",
        *(f"p[style-name='{name}'] => pre:separator('\\n')" for name in _CODE_PARAGRAPHS),
        *(f"r[style-name='{name}'] => code" for name in _CODE_CHARACTERS),
    ]
)
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


class DocxReader:
    """A file is a document."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        mammoth = need("mammoth", "reading DOCX")
        need("selectolax", "reading DOCX")
        parts = parts_of(path, lambda name: name.endswith((".xml", ".rels")))
        try:
            package = repacked({name: readable(data) for name, data in parts.items()})
            html = mammoth.convert_to_html(package, style_map=_STYLES, convert_image=_no_picture).value
        except (ExpatError, *BROKEN) as error:
            raise Unreadable(DAMAGED, f"not readable as DOCX: {error or type(error).__name__}") from error
        yield RawDocument(text=with_title(title_in(parts.get("docProps/core.xml")), _markdown(html)))


def title_in(properties: bytes | None) -> str | None:
    """The title in the core properties of an Office file, if a person wrote it."""
    try:
        return sane_title(fromstring(properties).findtext(_TITLE)) if properties else None  # noqa: S314 (no entities)
    except ParseError:
        return None


def _no_picture(picture: Any) -> list[Any]:
    return []


def _markdown(html: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    from llmtune.corpus.readers.html_blocks import blocks_text

    tree = LexborHTMLParser(html)
    for link in tree.css('a[href^="#footnote-ref-"], a[href^="#endnote-ref-"]'):  # the arrow back from a note
        link.decompose()
    return blocks_text(tree.body) if tree.body is not None else ""

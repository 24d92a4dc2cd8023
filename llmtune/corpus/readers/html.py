"""HTML: the main content of a page as Markdown-like text; navigation, scripts and page furniture dropped.

Parsed by selectolax's lexbor (a conforming HTML5 parser in C). `html_page.py` finds the content, `html_blocks.py`
writes it as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.readers.decode import decode, marked_encoding, problem
from llmtune.corpus.readers.detect import meaning_of
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.readers.title import with_title
from llmtune.corpus.readers.xhtml import as_html, is_xhtml
from llmtune.corpus.settings import Source
from llmtune.extras import need

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml[^>]+encoding\s*=\s*["']([A-Za-z0-9_.:-]+)["']""")

# A page that was read as far as its meta element is not in UTF-16, whatever it says there.
_NOT_SO = dict.fromkeys(("utf-16", "utf-16le", "utf-16be"), "utf-8")


class HtmlReader:
    """A page is a document, its title at the top."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        data = path.read_bytes()
        if found := problem(data[:8192], source.encoding):
            raise found
        page = decode(data, declared_encoding(data[:2048]) or source.encoding)
        text, licence = page_of(as_html(page) if path.suffix.lower() == ".xhtml" or is_xhtml(page) else page)
        yield RawDocument(text=text, licence=licence)


def declared_encoding(head: bytes) -> str | None:
    """The encoding a page declares in its first bytes, if Python knows it, by the meaning that browsers give to it."""
    found = _CHARSET.search(head) or _XML.search(head)
    if marked_encoding(head) or not found:
        return None
    label = found[1].decode("ascii").lower()
    return meaning_of(_NOT_SO.get(label, label))


def page_of(page: str) -> tuple[str, str | None]:
    """The main content of an HTML page as text, "" when there is none, and the licence that the page names."""
    need("selectolax", "reading HTML")
    from selectolax.lexbor import LexborHTMLParser

    from llmtune.corpus.readers.html_blocks import blocks_text
    from llmtune.corpus.readers.html_page import content_of, licence_of, title_of

    tree = LexborHTMLParser(page)
    title, licence = title_of(tree), licence_of(tree)
    content = content_of(tree)
    return with_title(title, blocks_text(content)) if content is not None else "", licence

"""HTML: the main content of a page as Markdown-like text; navigation, scripts and page furniture dropped.

Parsed by selectolax's lexbor (a conforming HTML5 parser in C). `html_page.py` finds the content, `html_blocks.py`
writes it as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.readers.decode import decode, marked_encoding, problem
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source
from llmtune.extras import need

_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml[^>]+encoding\s*=\s*["']([A-Za-z0-9_.:-]+)["']""")


# What a label means in HTML (https://encoding.spec.whatwg.org), where Python takes it to the letter. A page that was
# read as far as its meta element is not in UTF-16, whatever it says there.
_MEANING = {
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin-1", "latin1", "us-ascii", "ascii"), "cp1252"),
    **dict.fromkeys(("utf-16", "utf-16le", "utf-16be"), "utf-8"),
    **dict.fromkeys(("gb2312", "gb_2312-80", "gbk", "x-gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601", "ksc5601"), "cp949"),
}


class HtmlReader:
    """A page is a document, its title at the top."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        data = path.read_bytes()
        if found := problem(data[:8192]):
            raise found
        yield RawDocument(text=page_text(decode(data, declared_encoding(data[:2048]) or source.encoding)))


def declared_encoding(head: bytes) -> str | None:
    """The encoding a page declares in its first bytes, if Python knows it, by the meaning that browsers give to it."""
    found = _CHARSET.search(head) or _XML.search(head)
    if marked_encoding(head) or not found:
        return None
    name = found[1].decode("ascii").lower()
    name = _MEANING.get(name, name)
    try:
        "".encode(name)
    except (LookupError, UnicodeError):  # the codec "undefined" knows nothing, and says so
        return None
    return name


def page_text(page: str) -> str:
    """The main content of an HTML page as text; "" when there is none."""
    need("selectolax", "reading HTML")
    from selectolax.lexbor import LexborHTMLParser

    from llmtune.corpus.readers.html_blocks import blocks_text
    from llmtune.corpus.readers.html_page import content_of, title_of, with_title

    tree = LexborHTMLParser(page)
    title = title_of(tree)
    content = content_of(tree)
    return with_title(title, blocks_text(content)) if content is not None else ""

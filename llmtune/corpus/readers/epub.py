"""EPUB: the chapters of a book in the order of its spine, as one document.

Each chapter is an XHTML page and read as the HTML reader reads pages. Only what the spine names is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, fromstring

from llmtune.corpus.readers.decode import decode
from llmtune.corpus.readers.html import declared_encoding
from llmtune.corpus.readers.licence import licence_in
from llmtune.corpus.readers.reader import DAMAGED, PROTECTED, RawDocument, Rejected, Unreadable
from llmtune.corpus.readers.title import sane_title, with_title
from llmtune.corpus.readers.xhtml import as_html
from llmtune.corpus.readers.zipped import parts_of, refuse_entities
from llmtune.corpus.settings import Source
from llmtune.extras import need

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_TEXTS = (".xhtml", ".html", ".htm", ".xml", ".opf")
_PAGES = (
    *("application/xhtml+xml", "text/html", "application/xml", "text/xml"),
    *("application/x-dtbook+xml", "text/x-oeb1-document"),
)
_DC = "{http://purl.org/dc/elements/1.1/}"


class EpubReader:
    """A book is a document, its title on top; its rights are the licence, if they name one."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument | Rejected]:
        need("selectolax", "reading EPUB")
        parts = parts_of(path, _is_text)
        place = _package_place(parts)
        package = _xml(parts, place)
        locked = _encrypted(parts)
        spine = _spine(package, dirname(place))
        if others := {name for name in spine if not _is_text(name)}:  # the book says which parts are pages
            parts = parts_of(path, lambda name: _is_text(name) or name in others)
        texts: list[str] = []
        for name in spine:
            if name in locked:
                raise Unreadable(PROTECTED, f"{name} is encrypted (digital rights management)")
            if name not in parts:
                yield Rejected(f"#{name}", DAMAGED, "a chapter that the book names and does not hold")
                continue
            try:
                texts.append(_chapter(parts[name], source))
            except Unreadable as error:
                yield Rejected(f"#{name}", error.reason, error.detail)
        title = sane_title(package.findtext(f".//{_DC}title"))
        licence = licence_in(package.findtext(f".//{_DC}rights") or "")
        yield RawDocument(text=with_title(title, "\n\n".join(filter(None, texts))), licence=licence)


def _is_text(name: str) -> bool:
    return name.lower().endswith(_TEXTS)


def _package_place(parts: dict[str, bytes]) -> str:
    """Where in the zip file the package document is, which lists the book's parts."""
    root = next((node for node in _xml(parts, _CONTAINER).iter() if _tag(node) == "rootfile"), None)
    place = root.get("full-path") if root is not None else None
    if not place:
        raise Unreadable(DAMAGED, f"{_CONTAINER} names no package document")
    return place


def _xml(parts: dict[str, bytes], name: str) -> Element:
    if name not in parts:
        raise Unreadable(DAMAGED, f"not an EPUB: it holds no {name}")
    refuse_entities(name, parts[name])  # whatever it is called: the book says which part is its package
    try:
        return fromstring(parts[name])  # noqa: S314 (entities are refused)
    except ParseError as error:
        raise Unreadable(DAMAGED, f"{name}: {error}") from error


def _tag(node: Element) -> str:
    return node.tag.rpartition("}")[2]


def _spine(package: Element, folder: str) -> list[str]:
    """The names of the pages in reading order, without the page that is a table of contents."""
    items = {node.get("id"): node for node in package.iter() if _tag(node) == "item"}
    found: list[str] = []
    for reference in (node for node in package.iter() if _tag(node) == "itemref"):
        item = items.get(reference.get("idref"))
        contents = item is not None and "nav" in (item.get("properties") or "").split()
        if item is not None and item.get("media-type") in _PAGES and not contents:
            found.append(normpath(join(folder, unquote(item.get("href") or ""))))
    return list(dict.fromkeys(found))  # a page named many times is read once


def _encrypted(parts: dict[str, bytes]) -> set[str]:
    """The parts that cannot be read without a key. Fonts are often scrambled, and are no matter here."""
    if _ENCRYPTION not in parts:
        return set()
    references = (node.get("URI") for node in _xml(parts, _ENCRYPTION).iter() if _tag(node) == "CipherReference")
    return {normpath(unquote(reference)) for reference in references if reference}


def _chapter(data: bytes, source: Source) -> str:
    from selectolax.lexbor import LexborHTMLParser

    from llmtune.corpus.readers.html_blocks import blocks_text
    from llmtune.corpus.readers.html_page import content_of

    page = decode(data, declared_encoding(data[:2048]) or source.encoding)
    content = content_of(LexborHTMLParser(as_html(page)), book=True)
    return blocks_text(content) if content is not None else ""

"""XHTML as HTML: an element that is whole in the one begins in the other, and what follows it would be inside."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z][\w:.-]*(?!\S)")
_SCRIPT = re.compile(r"<script(?:\s[^<>]*)?(?<!/)>", re.IGNORECASE)
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})


def is_xhtml(page: str) -> bool:
    """Whether a page says that it is XML."""
    return page[:100].lstrip().startswith("<?xml")


def as_html(page: str) -> str:
    """The page with end tags for its empty elements: `<a id="x"/>` is never closed in HTML. Scripts stay."""
    parts, at = [], 0
    for script in _SCRIPT.finditer(page):
        if script.start() >= at:
            if (end := page.find("</script", script.end())) < 0:
                break
            parts += [_closed(page[at : script.start()]), page[script.start() : end]]
            at = end
    return "".join([*parts, _closed(page[at:])])


def _closed(page: str) -> str:
    pieces = page.split("/>")
    for number, piece in enumerate(pieces[:-1]):
        start = piece.rfind("<") + 1
        name = _NAME.match(piece, start) if start else None
        if name and name[0].lower() not in _VOID and piece.find(">", start) < 0:
            pieces[number] = f"{piece}></{name[0]}>"
        else:
            pieces[number] = f"{piece}/>"
    return "".join(pieces)

"""The XML of a Word file, said in the elements that mammoth knows: it drops the text of all others."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring, tostring

from llmtune.corpus.readers.office_xml import linear, local, settle

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# Elements that mammoth does not know, and those that it reads as they are to be read; of smartTag, only what is in it.
_IN_WORD = {**dict.fromkeys(("fldSimple", "dir", "bdo", "ruby", "rubyBase"), "smartTag"), "cr": "br", "ptab": "tab"}
_KNOWN_AS = {
    _WORD: _IN_WORD,
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}": _IN_WORD,
    "{urn:schemas-microsoft-com:vml}": dict.fromkeys(("arc", "curve", "image", "line", "oval", "polyline"), "shape"),
}
_SYMBOL_FONTS = frozenset({"Symbol", "Webdings", "Wingdings", "Wingdings 2", "Wingdings 3"})  # mammoth knows them
_CONCERNED = re.compile(rb"[<:](?:AlternateContent|txbxContent|oMath|fldSimple|dir|bdo|ruby|cr|ptab|sym)[\s/>]")


def readable(data: bytes) -> bytes:
    """A part of a Word file, which defines no entities, so that mammoth finds its text; most parts as they are."""
    if not _CONCERNED.search(data.replace(b"\0", b"")):  # in UTF-16 every other byte is 0
        return data
    try:
        root = fromstring(data)  # noqa: S314 (no entities)
    except ParseError:  # mammoth, whose parser is the same, says so of those that it needs
        return data
    settle(root)
    for element in reversed(list(root.iter())):  # what is inside before what is around it
        _translate(element)
    return tostring(root, "utf-8")


def _translate(element: Any) -> None:
    name = local(element)
    namespace = element.tag.removesuffix(name)
    if known := _KNOWN_AS.get(namespace, {}).get(name):
        element.tag = namespace + known
    elif name == "AlternateContent" and len(element):
        element[0].tag = f"{namespace}Fallback"  # all that mammoth looks at
    elif name == "drawing":  # of which mammoth reads only the picture
        element.tag, element[:] = f"{_WORD}pict", _boxes(element)
    elif name in ("oMath", "oMathPara"):
        _write(element, linear(element))
    elif name == "sym":
        _symbol(element, namespace)


def _boxes(element: Any) -> list[Any]:
    """The contents of the text boxes in a drawing; those of a box in a box are part of the outer one's."""
    return [box for child in element for box in ([child] if local(child) == "txbxContent" else _boxes(child))]


def _symbol(element: Any, namespace: str) -> None:
    """A character by its number. In fonts of symbols mammoth knows it, by capital digits; in others it is Unicode's."""
    number = element.get(f"{namespace}char", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{4}", number):
        _write(element, "")
    elif element.get(f"{namespace}font") in _SYMBOL_FONTS:
        element.set(f"{namespace}char", number.upper())
    else:  # what is not printable is private, known to the font alone
        _write(element, char if (char := chr(int(number, 16))).isprintable() else "")


def _write(element: Any, text: str) -> None:
    """Make an element one of text."""
    element.clear()
    element.tag, element.text = f"{_WORD}t", text

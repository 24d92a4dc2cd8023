"""What Office files say where the libraries that read them do not look: alternatives and equations.

Elements are those of xml.etree or of lxml.
"""

from __future__ import annotations

from typing import Any

_SCRIPTS = {"num": "", "den": "/", "sub": "_", "sup": "^", "lim": "_"}
_BETWEEN = {"mr": ", ", "m": "; ", "eqArr": "; ", "oMathPara": " "}  # cells, rows, lines, equations
_UNSAID = ("Pr", "del", "moveFrom")  # properties, deleted revisions


def local(element: Any) -> str:
    """An element's name without its namespace; of a comment, none that is asked for."""
    return str(element.tag).rpartition("}")[2]


def settle(element: Any) -> int:
    """How many characters of text, white space aside, are in an element, once every `mc:AlternateContent` in it is left
    with one of its ways to say the same thing: the one with the most text; of equals the last, which is for programs
    that know the least. Some writers put a picture there, or nothing."""
    found = list(map(settle, element))
    name = local(element)
    if name == "AlternateContent" and found:
        best = max(reversed(range(len(found))), key=found.__getitem__)
        element[:] = [element[best]]
        return found[best]
    return sum(found) + (len("".join((element.text or "").split())) if name == "t" else 0)


def linear(math: Any) -> str:
    """An equation on one line, much as Word writes it there: `(a+b)/2`, `x_i^2`, `√(x)`, `∑_(i=1)^n x`."""
    name = local(math)
    if name == "t":
        return math.text or ""
    parts = [(local(child), linear(child)) for child in math if not local(child).endswith(_UNSAID)]
    texts = [text for _, text in parts]
    if name in _BETWEEN:
        return _BETWEEN[name].join(texts)
    if name == "d":
        usual = (("begChr", "("), ("sepChr", "|"), ("endChr", ")"))
        left, between, right = (_property(math, *character) for character in usual)
        return left + between.join(texts) + right
    if name == "rad":
        return f"√({'&'.join(filter(None, texts))})"
    if name == "f" and _property(math, "type", "bar") == "noBar":
        return "¦".join(texts)
    if name == "acc":
        return "".join(texts) + _property(math, "chr", "\u0302")
    line = _property(math, "chr", "∫") if name == "nary" else ""
    for part, text in parts:
        if part in _SCRIPTS and text:
            line += _SCRIPTS[part] + (text if len(text) == 1 or text.isalnum() else f"({text})")
        else:
            line += f" {text}" if name in ("nary", "func") and part == "e" else text
    return line


def _property(math: Any, name: str, default: str) -> str:
    """What an element's properties say of a character: the one that is usual where they say nothing."""
    found = math.find(f"{{*}}{local(math)}Pr/{{*}}{name}")
    return default if found is None else next((v for key, v in found.attrib.items() if key.endswith("val")), default)

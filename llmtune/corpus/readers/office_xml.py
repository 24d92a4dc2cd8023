"""What Office files say where the libraries that read them do not look: alternatives.

Elements are those of xml.etree or of lxml.
"""

from __future__ import annotations

from typing import Any


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

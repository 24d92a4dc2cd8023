"""The licence that a document says it is under, as an SPDX id where it can be told."""

from __future__ import annotations

import re

_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/(?:licenses/(by[a-z-]*)|publicdomain/(zero))/(\d\.\d)")
_LISTED = re.compile(r"(?:opensource|spdx)\.org/licenses/([\w.+-]*[\w+])")
_ENDING = re.compile(r"\.(?:html|php)$")
_A_LICENCE = re.compile(r"licen[cs]e|creative ?commons|public domain|\bcc[ -]?(?:by|0)\b|gpl\b|gfdl\b", re.IGNORECASE)
_LONGEST = 200  # characters; some put a notice of pages there
_NOTHING = frozenset(("", "~", "null", "none", "unknown"))


def licence_at(address: str) -> str | None:
    """The licence at a web address: of Creative Commons, or of the lists at opensource.org and spdx.org by its id, of
    others the address itself."""
    if found := _CREATIVE_COMMONS.search(address.lower()):
        return f"CC-{found[1].upper()}-{found[3]}" if found[1] else f"CC0-{found[3]}"
    if listed := _LISTED.search(address):
        return _ENDING.sub("", listed[1])
    return address if re.fullmatch(rf"https?://\S{{1,{_LONGEST}}}", address) else None


def licence_named(name: str) -> str | None:
    """The licence by its name or address, as under `license:`."""
    name = " ".join(name.split())
    if name.lower() in _NOTHING or len(name) > _LONGEST or name[0] in "[{&*!":
        return None
    return licence_at(name) or name


def licence_in(rights: str) -> str | None:
    """The licence that a statement of rights names, if it names one: most say who holds the copyright."""
    rights = " ".join(rights.split())
    if (found := licence_at(rights)) not in (None, rights):
        return found
    return rights if len(rights) <= _LONGEST and _A_LICENCE.search(rights) else None

"""Public IP addresses. Those that nobody owns (private, reserved, of documentation) are no personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

_QUAD = re.compile(r"\d\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.[\w-])")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_OF_V6 = "0123456789abcdefABCDEF:"
# What makes four small numbers an address, and what makes four numbers something else.
_ADDRESS_WORD = re.compile(
    r"(?:\b(?:ip|ips|ipv4|addr|address|host|server|dns|ping|from|peer|client|gateway|route)\b|//|@)"
    r"\W{0,3}(?:is |of |to |= ?)?\Z",
    re.IGNORECASE,
)
_NUMBER_WORD = re.compile(
    r"(?:\b(?:v|ver|version|release|rel|section|sect|sec|chapter|clause|figure|table|oid|build|firmware|driver|kernel|linux)"
    r"s?\.?\W{0,2}|§ ?|[<>=~^!]= ?|\w ?[<>~^] ?|#+ |(?<!/)/)\Z",
    re.IGNORECASE,
)
_AT_LINE_START = re.compile(r"(?:^|\n)[>*+\s-]*\Z")
_HEADING = re.compile(r"[.:)]?[ \t]+[`\"“]?[A-Z\u00c0-\u00de\u0400-\u042f]")
_PORT_OR_PREFIX = re.compile(r":\d{2,5}\b|/\d{1,2}\b")
_SECTION = 100
_SMALL = 20  # numbers of a version or a section are rarely all below it by chance
# Name servers that everybody knows, and the address that stands for any address.
_FAMOUS = frozenset(
    ("1.2.3.4", "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "2001:4860:4860::8888", "2001:4860:4860::8844",
     "2606:4700:4700::1111")
)  # fmt: skip
_UNICAST = 0x2000 << 112, 0x4000 << 112  # 2000::/3, all of the IPv6 addresses that are given out


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the public IPv4 and IPv6 addresses in a text. Four numbers below 20 are a version or a section unless a
    word before them (`host`, `ping`) or what follows them (a port, a prefix length) says that they are an address."""
    for found in _QUAD.finditer(text):
        start = found.start()
        while start > 0 and text[start - 1].isdigit():
            start -= 1
        if _is_public(text[start : found.end()]) and _is_address(text, start, found.end()):
            yield start, found.end()
    last = 0
    for found in _COLONS.finditer(text):
        if found.start() < last:
            continue
        start, end = found.span()
        while start > last and text[start - 1] in _OF_V6:
            start -= 1
        while end < len(text) and text[end] in _OF_V6:
            end += 1
        last = end
        if end - start > 3 and text[end - 1] == ":" != text[end - 2]:
            end -= 1  # a colon behind it
        if not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum() and _is_public(text[start:end]):
            yield start, end


def _is_public(written: str) -> bool:
    """Whether it is the address of a host of the public network."""
    try:
        if ":" in written:
            number, is_global = int(IPv6Address(written)), IPv6Address(written).is_global
            is_host = _UNICAST[0] <= number < _UNICAST[1] and number % (1 << 64) > 0
        else:
            is_host, is_global = not IPv4Address(written).is_multicast, IPv4Address(written).is_global
    except ValueError:
        return False
    return is_host and is_global and written not in _FAMOUS


def _is_address(text: str, start: int, end: int) -> bool:
    """Whether four numbers are an address by what stands around them, and no version, section or file name."""
    before = text[max(0, start - 24) : start]
    if before[-1:].isalnum() or before.endswith(("_", "-", ".")) or _NUMBER_WORD.search(before):
        return False
    numbers = [int(part) for part in text[start:end].split(".")]
    if numbers[3] == 0:
        return False  # a network, nobody's
    if max(numbers) < _SECTION and _AT_LINE_START.search(before) and _HEADING.match(text, end):
        return False
    if max(numbers) < _SMALL:
        return bool(_ADDRESS_WORD.search(before) or _PORT_OR_PREFIX.match(text, end))
    return True

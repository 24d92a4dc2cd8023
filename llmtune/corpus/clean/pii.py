"""Personal data and secrets: masked by a placeholder that says what stood there, or the document dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmtune.corpus.clean.contacts import find_emails, find_phones
from llmtune.corpus.clean.network import find_addresses
from llmtune.corpus.clean.numbers import find_cards, find_ibans, find_ids, number_runs
from llmtune.corpus.clean.secrets import find_keys, find_private_keys

# What is looked for, by the names of the settings.
PLACEHOLDERS = {
    "private_key": "<PRIVATE_KEY>",
    "key": "<KEY>",
    "email": "<EMAIL>",
    "iban": "<IBAN>",
    "credit_card": "<CREDIT_CARD>",
    "national_id": "<NATIONAL_ID>",
    "phone": "<PHONE>",
    "ip": "<IP_ADDRESS>",
}
_PLAIN = {
    "private_key": find_private_keys,
    "key": find_keys,
    "email": find_emails,
    "phone": find_phones,
    "ip": find_addresses,
}
_CHECKED = {"iban": find_ibans, "credit_card": find_cards, "national_id": find_ids}


def find_pii(text: str, kinds: Iterable[str]) -> list[tuple[int, int, str]]:
    """(start, end, kind) of all that is found, in order. Of two that overlap the one that begins first counts, then the
    one that stands first in PLACEHOLDERS."""
    wanted = set(kinds)
    runs = number_runs(text) if wanted & set(_CHECKED) else []
    found: list[tuple[int, int, int, str]] = []
    for rank, kind in enumerate(PLACEHOLDERS):
        if kind in wanted:
            spans = _PLAIN[kind](text) if kind in _PLAIN else _CHECKED[kind](text, runs)
            found += [(start, rank, end, kind) for start, end in spans]
    apart: list[tuple[int, int, str]] = []
    for start, _, end, kind in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, end, kind))
    return apart


def masked(text: str, found: Iterable[tuple[int, int, str]]) -> str:
    """The text with a placeholder for each that was found."""
    parts, last = [], 0
    for start, end, kind in found:
        parts += [text[last:start], PLACEHOLDERS[kind]]
        last = end
    return "".join([*parts, text[last:]])


def hidden(text: str, found: Iterable[tuple[int, int, str]]) -> str:
    """The text with what was found unreadable but of the same form, to be shown: `xxxx.xxx@xxxx.xx`."""
    parts, last = [], 0
    for start, end, _ in found:
        parts += [text[last:start], re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "0", text[start:end]))]
        last = end
    return "".join([*parts, text[last:]])

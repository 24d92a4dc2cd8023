"""Plain views of a document: its characters, its words as one string, its hash."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Protocol

from llmtune.corpus.store import Document

# Thai, Lao, Burmese, Khmer, Japanese and Chinese, as a set of characters in a regular expression: scripts written
# without spaces between words.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"


@cache
def marks() -> re.Pattern[str]:
    """A vowel sign, tone mark or the like, which Python takes for no letter: half of what is written in Indic scripts,
    Thai, Khmer."""
    found = (chr(code) for code in range(0x300, 0x1F000))
    return re.compile(f"[{''.join(one for one in found if unicodedata.category(one)[0] == 'M')}]")


class Said(Protocol):
    """A turn of a conversation, as read or as stored."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


def plain_text(text: str | None, messages: Iterable[Said] | None) -> str:
    """The words of a document without template or roles: its text, or what the turns say, apart by empty lines."""
    return text if text is not None else "\n\n".join(message.content for message in messages or ())


def characters_of(text: str | None, messages: Iterable[Said] | None) -> int:
    """Length of `plain_text`."""
    return len(plain_text(text, messages))


def document_text(document: Document) -> str:
    """`plain_text` of a document."""
    return plain_text(document.text, document.messages)


def compared_text(document: Document) -> str:
    """What is compared to find near-duplicates: `plain_text` without system prompts, which whole data sets share."""
    return plain_text(document.text, (message for message in document.messages or () if message.role != "system"))


def content_hash(text: str | None, messages: Iterable[Said] | None) -> str:
    """Hex SHA-256 of the UTF-8 text, or of the canonical JSON `[[role, content], …]` of a conversation."""
    if text is None:
        turns = [[message.role, message.content] for message in messages or ()]
        text = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

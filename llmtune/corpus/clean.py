"""Clean-up that every text gets, whatever it came from."""

from __future__ import annotations

import re
import unicodedata

from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.store import Message

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control characters but tab and newline, byte order marks, soft hyphens, zero-width and word-joining spaces, the
# direction marks that only hide (U+200E and U+200F stay: Arabic and Hebrew need them), lone surrogates, noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb"
    "\ufffe\uffff]"
)
_WIDE_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)  # each run of blanks is looked at once
_BLANK_LINES = re.compile(r"\n{4,}")


def cleaned(raw: RawDocument) -> tuple[str | None, tuple[Message, ...] | None]:
    """The text, or the turns, of a document as read, cleaned."""
    text = clean_text(raw.text) if raw.text is not None else None
    if raw.messages is None:
        return text, None
    return text, tuple(Message(turn.role, clean_text(turn.content)) for turn in raw.messages)


def clean_text(text: str) -> str:
    """Unicode NFC, \\n line ends, no control or invisible characters, no trailing white space, at most two blank lines
    in a row, none at either end. Idempotent. Indentation and tabs stay: they are part of code."""
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _WIDE_SPACES.sub(" ", text)
    text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", text)
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")

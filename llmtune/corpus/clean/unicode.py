"""Unicode form, line ends and invisible characters: clean-up that every text gets, whatever it came from."""

from __future__ import annotations

import re
import unicodedata

from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.store import Message

_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
# Control characters but tab and newline, byte order marks, soft hyphens, zero-width and word-joining spaces, the
# direction marks that only hide (U+200E and U+200F stay: Arabic and Hebrew need them), lone surrogates, noncharacters.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb"
    "\ufffe\uffff"
)
_WIDE_SPACES = "\u00a0\u2000-\u200a\u202f\u205f"
_A_LINE_END, _AN_INVISIBLE, _A_WIDE_SPACE = (re.compile(f"[{one}]") for one in (_LINE_ENDS, _INVISIBLE, _WIDE_SPACES))
_UNUSUAL = re.compile(f"[\r{_LINE_ENDS}{_INVISIBLE}{_WIDE_SPACES}]")  # few texts have any of them
# What a terminal does not show: colours, titles of windows, character sets, and what a backspace strikes over (`N\bN`:
# a bold N).
_TERMINAL = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)|\x1b[()*+][0-9A-Za-z]|.\x08")
# A soft hyphen at the end of a line is where a typesetter broke a word.
_BROKEN = re.compile(r"\u00ad[ \t]*\n[ \t]*")
_BLANK_LINES = re.compile(r"\n{4,}")


def cleaned(raw: RawDocument) -> tuple[str | None, tuple[Message, ...] | None]:
    """The text, or the turns, of a document as read, cleaned."""
    text = clean_text(raw.text) if raw.text is not None else None
    if raw.messages is None:
        return text, None
    return text, tuple(Message(turn.role, clean_text(turn.content)) for turn in raw.messages)


def clean_text(text: str) -> str:
    """Unicode NFC, \\n line ends, no terminal sequences, control or invisible characters, no trailing white space, at
    most two blank lines in a row, none at either end. Idempotent. Indentation and tabs stay: they are part of code."""
    return clean_and_count(text)[0]


def clean_and_count(text: str) -> tuple[str, int]:
    """The text as `clean_text` makes it, and how many characters were taken out that nobody sees."""
    gone = 0
    if _UNUSUAL.search(text):
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = _A_LINE_END.sub("\n", text)
        if "\u00ad" in text:
            text = _BROKEN.sub("", text)
        text = _A_WIDE_SPACE.sub(" ", text)
        before = len(text)
        if "\x1b" in text or "\x08" in text:
            text = _TERMINAL.sub("", text)
        text = _AN_INVISIBLE.sub("", text)
        gone = before - len(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    return tidy(text), gone


def tidy(text: str) -> str:
    """At most two blank lines in a row, none at either end."""
    return (_BLANK_LINES.sub("\n\n\n", text) if "\n" * 4 in text else text).strip("\n")

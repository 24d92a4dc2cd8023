"""What people and files say, as it may be printed."""

from __future__ import annotations

import re

from llmtune.corpus.text import printable

# Control characters, with which a terminal can be made to do things, and the marks that turn the direction of writing,
# with which a text can be made to look like another.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """`printable` text of one line in which control characters are spelt out too: `\\x1b[31m`."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))

"""Text that was decoded by the wrong encoding (`cafÃ©` for `café`), put right by ftfy (Speer, 2019).

Only the encoding: ftfy's other mendings (curly quotes made straight, HTML entities, ligatures, full-width letters)
change text that is right, and code. A line is put right only when the whole of it reads as UTF-8 afterwards, so that a
page which explains mojibake, with the right letters beside the wrong ones, stays as it is.
"""

from __future__ import annotations

import re

from llmtune.extras import need

# What a letter beyond ASCII becomes in the wrong encoding: two characters or more of those that single-byte encodings
# have; or one, and a space that was U+00A0, or a character that was already lost.
_SUSPECT = re.compile("[\u0080-\u2e7f\uf8ff\ufb01\ufb02\ufffd]{2}|Ã[ \n]|Ã$")


def mend_mojibake(text: str) -> tuple[str, int]:
    """The text, and how many lines of it were put right. Idempotent; text that is right stays as it is."""
    if text.isascii() or not _SUSPECT.search(text):
        return text, 0
    ftfy = need("ftfy", "mending text that was decoded wrongly")
    is_bad = need("ftfy.badness", "mending text that was decoded wrongly").is_bad
    config = ftfy.TextFixerConfig(decode_inconsistent_utf8=False, replace_lossy_sequences=False)
    lines, mended = text.split("\n"), 0
    for number, line in enumerate(lines):
        if not line.isascii() and _SUSPECT.search(line) and is_bad(line):
            right = ftfy.fix_encoding(line, config)
            if right != line:
                lines[number] = right
                mended += 1
    return "\n".join(lines), mended

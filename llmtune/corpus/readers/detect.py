"""Which encoding text without any mark is in, told only when two detectors agree.

chardetng (Firefox's detector) is good and always answers; chardet's models are other ones. Where both read the same
text out of the bytes it is right, as measured in docs/readers.md; a wrong guess would spoil text in silence.
"""

from __future__ import annotations

import codecs
import re

from llmtune.extras import need

_JUDGED = 64_000  # bytes of lines that are not ASCII: more make no answer surer
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
# From which share of the bytes beyond ASCII on a text that looks like UTF-8 is UTF-8, damaged. By chance at most 0.64
# do in encodings with two bytes a character or one that fills them all (Thai), and 0.27 (KOI8-U) in all others.
_MOSTLY, _MOSTLY_OF_LETTERS = 0.8, 0.4
_WIDE = frozenset({"big5", "cp874", "cp932", "cp949", "euc_jp", "euc_kr", "gb18030", "shift_jis"})
_BEYOND_ASCII = bytes(range(128, 256))

# What a label means on the web (https://encoding.spec.whatwg.org), where Python takes it to the letter or does not
# know it.
_MEANING = {
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin-1", "latin1", "us-ascii", "ascii"), "cp1252"),
    **dict.fromkeys(("gb2312", "gb_2312-80", "gbk", "x-gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601", "ksc5601"), "cp949"),
    "windows-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "x-mac-cyrillic": "mac-cyrillic",
    "macintosh": "mac-roman",
}
# Python's codecs that are no encoding of a page: they would read escapes in it.
_NO_PAGES = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})


def meaning_of(label: str) -> str | None:
    """Python's codec for a label of an encoding, by the meaning that browsers give to it; None if there is none."""
    name = _MEANING.get(label.lower(), label.lower())
    if name.replace("_", "-") in _NO_PAGES:
        return None
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):  # the codec "undefined" knows nothing, and says so
        return None


def detected(data: bytes) -> str | None:
    """The encoding of text that is not UTF-8 and declares none; None where it is not sure, as for UTF-8 that is
    damaged here and there. Raises MissingExtra."""
    share = _share_of_utf8(data)
    if share >= _MOSTLY:
        return None
    chardetng = need("chardetng_py", "telling the encoding of a file that is not UTF-8")
    chardet = need("chardet", "telling the encoding of a file that is not UTF-8")
    judged = _telling_lines(data)
    detector = chardetng.EncodingDetector()
    detector.feed(judged, last=True)
    first = _read_as(judged, detector.guess(tld=None, allow_utf8=False))
    second = _read_as(judged, chardet.detect(judged)["encoding"])
    if first is None or second is None or first[1] != second[1]:
        return None
    return first[0] if first[0] in _WIDE or share < _MOSTLY_OF_LETTERS else None


def _telling_lines(data: bytes) -> bytes:
    """The first lines that are not ASCII (the rest tells nothing), none of them cut in the middle unless it is huge."""
    lines: list[bytes] = []
    size = 0
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size >= _JUDGED:
                break
    return b"".join(lines)


def _share_of_utf8(data: bytes) -> float:
    beyond = len(data) - len(data.translate(None, _BEYOND_ASCII))
    return sum(found.end() - found.start() for found in _UTF8.finditer(data)) / max(beyond, 1)


def _read_as(data: bytes, label: str | None) -> tuple[str, str] | None:
    """(codec, text), or None if the bytes are not all in it."""
    codec = meaning_of(label) if label else None
    try:
        return (codec, data.decode(codec)) if codec else None
    except UnicodeDecodeError:
        return None

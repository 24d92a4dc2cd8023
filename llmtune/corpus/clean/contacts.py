"""E-mail addresses and phone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmtune.extras import need

_DOMAIN = re.compile(r"@[^\W_][\w-]*(?:\.[\w-]+)+")
_LOCAL = re.compile(r"[\w.+%'-]*[\w+%-]\Z")
# Names kept for examples (RFC 2606, 6761, 6762).
_EXAMPLES = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost|local)", re.IGNORECASE)
_FILE = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "py", "rb", "sh", "so", "conf", "md", "html",
     "service", "socket", "target", "timer", "mount", "automount", "slice", "scope", "device", "swap", "path")
)  # fmt: skip
_REMOTE = re.compile(r":[\w~/.]")  # git@host:path, scp user@host:path
_WORD_END = re.compile(r"[\s<>\"'(]")

_INTERNATIONAL = re.compile(r"\+\d[\d ().\u2011/-]{5,22}\d\d(?!\w)|\+\(\d[\d ().\u2011/-]{5,22}\d\d(?!\w)")
_APART = re.compile(r" [-/.]|[-/.] ")  # no way to write one number
_NATIONAL = re.compile(r"(?<!\d)(?:(?:\(\d{1,5}\)|\d{1,15})(?:[ ./\u2011-]{1,2}\d{1,15})+(?!\w)|\d{7,15}(?!\w))")
# What is never a phone number: a date, a dotted quad, a decimal, a list of single digits.
_OTHER = re.compile(
    r"(?:19|20)\d\d([-/.])(?:0\d|1[0-2])\1[0-3]\d(?!\d)|\d{1,3}(?:\.\d{1,3}){3}\Z|(?:0|[1-9]\d*)\.\d+\Z"
    r"|(?:\d+ )*?\d \d \d(?!\d)"
)
_AMERICAN = re.compile(r"\(\d{3}\) ?\d{3}[-. ]\d{4}(?!\w)")
_PHONE_WORDS = (
    "phone", "telephone", "téléphone", "tel", "tél", "fax", "telefax", "whatsapp", "hotline", "sms", "telefon",
    "telefono", "teléfono", "telefone", "móvil", "celular", "cellphone", "handynummer", "telefoon", "puhelin",
    "телефон",
)  # fmt: skip
_OTHER_USES = ("call", "cell", "dial", "mobile", "handy")  # of functions, grids: the number must look like it
_PHONE_WORD = re.compile(
    rf"(?<!\w)(?:(?:{'|'.join(_PHONE_WORDS)})(?:s|nummer|numero)?|(?P<other>{'|'.join(_OTHER_USES)}))"
    r"(?: (?:number|no|us|me|at|on|is|nr|num))*[\s.:)]{0,4}\Z",
    re.IGNORECASE,
)
_LEAST_NATIONAL = 9  # digits of a number with its leading zero; an address of code has eight


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the e-mail addresses in a text. No address of an example, no `git@host:path`, none in the host or
    path of a URL, no `icon@2x.png`, no `x@w.reshape(…)`. Angle brackets around an address belong to it."""
    for found in _DOMAIN.finditer(text):
        before = text[max(0, found.start() - 64) : found.start()]
        local = _LOCAL.search(before)
        domain = found[0][1:].rstrip("-_")
        top = domain.rpartition(".")[2].lower()
        is_top = (top.isalpha() or top.startswith("xn--")) and 2 <= len(top) <= 24 and top not in _FILE
        if local is None or not is_top:
            continue
        end = found.start() + 1 + len(domain)
        if _EXAMPLES.fullmatch(domain) or _REMOTE.match(text, end) or text.startswith("(", end):
            continue
        _, of_url, address = _WORD_END.split(before)[-1].rpartition("://")
        if of_url and "?" not in address:  # in paths stand ids of messages; in queries addresses are somebody's
            continue
        name = local[0].lstrip(".'-")
        start = found.start() - len(name)
        if name in ("", "git"):
            continue
        in_brackets = start > 0 and text[start - 1] == "<" and text.startswith(">", end)
        yield (start - 1, end + 1) if in_brackets else (start, end)


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the phone numbers in a text: with a country code; as `(415) 555-2671`; or with a word before them that
    says what they are. The first two are looked up in libphonenumber's numbering plans."""
    if "+" in text:
        for found in _INTERNATIONAL.finditer(text):
            stands_alone = not text[found.start() - 1 : found.start()].isalnum() and not _APART.search(found[0])
            if stands_alone and _is_dialled(found[0], None):
                yield found.span()
    if "(" in text:
        for found in _AMERICAN.finditer(text):
            if not text[found.start() - 1 : found.start()].isalnum() and _is_dialled(found[0], "US"):
                yield found.span()
    small = text.lower()
    if any(word in small for word in _PHONE_WORDS + _OTHER_USES):
        for found in _NATIONAL.finditer(text):
            digits = sum(character.isdigit() for character in found[0])
            if not 7 <= digits <= 15 or _OTHER.match(found[0]):
                continue
            word = _PHONE_WORD.search(text, max(0, found.start() - 30), found.start())
            if word and (not word["other"] or _is_national(found[0], digits)):
                yield found.span()


def _is_national(number: str, digits: int) -> bool:
    """Whether a number without a country code is written as one of a phone."""
    if number.startswith("("):
        return True
    if number.startswith("0"):
        return digits >= _LEAST_NATIONAL and not number.startswith("00")
    return _is_dialled(number, "US")


def _is_dialled(number: str, region: str | None) -> bool:
    """Whether a number is one of a numbering plan."""
    phonenumbers = need("phonenumbers", "looking for phone numbers")
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False

"""Numbers with check digits: credit cards, IBANs, national identity numbers; checked by python-stdnum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from llmtune.extras import need

Span = tuple[int, int]

# Where such numbers can stand: long runs of digits, capitals and what separates them.
_RUN = re.compile(r"[A-Z0-9][A-Z0-9 .+/-]{8,}")
_FEWEST_DIGITS = 7
_LIMIT = r"(?<![\w.+/-])(?:{})(?![\w]|[.+/-]\w)"

# Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay; in one piece, or in the groups on the card.
_CARD = re.compile(
    _LIMIT.format(
        r"(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|65\d\d|64[4-9]\d|35[2-8]\d|62\d\d)"
        r"(?P<s>[ -]?)\d{4}(?P=s)\d{4}(?P=s)\d{4}"
        r"|3[47]\d\d(?P<a>[ -]?)\d{6}(?P=a)\d{5}|3(?:0[0-5]|[68]\d)\d(?P<d>[ -]?)\d{6}(?P=d)\d{4})"
    )
)
# A card in groups within a longer row of numbers is part of a table; a date it expires on may follow it.
_NUMBER_BEFORE = re.compile(r"\d \Z")
_NUMBER_AFTER = re.compile(r" \d(?!\d/\d\d(?!\d))")
# Numbers that payment companies print in their manuals.
_TEST_CARDS = frozenset(
    ("4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "4000000000000002",
     "4444333322221111", "5555555555554444", "5105105105105100", "5200828282828210", "2223003122003222",
     "378282246310005", "371449635398431", "378734493671000", "6011111111111117", "6011000990139424",
     "3530111333300000", "3566002020360505", "30569309025904", "38520000023237")
)  # fmt: skip
_IBAN = re.compile(_LIMIT.format(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"))
_TEST_IBANS = frozenset(("GB29NWBK60161331926819", "GB82WEST12345698765432", "DE89370400440532013000"))


@dataclass(frozen=True)
class _Id:
    """A national number. check: module of python-stdnum. named: words of which one must stand before it, where the
    check alone lets too many other numbers pass."""

    check: str
    pattern: re.Pattern[str]
    named: re.Pattern[str] | None = None


def _id(check: str, pattern: str, named: str = "") -> _Id:
    words = re.compile(rf"(?<!\w)(?:{named})(?!\w)", re.IGNORECASE) if named else None
    return _Id(check, re.compile(_LIMIT.format(pattern)), words)


_IDS = (
    _id("be.nn", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"),
    _id("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d"),
    _id("ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "sin|social insurance"),
    _id("ch.ssn", r"756\.\d{4}\.\d{4}\.\d\d"),
    _id("cn.ric", r"[1-8]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])\d{5}[\dX]"),
    _id("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "steuer\\S*|idnr|tax id|identifikationsnummer|tin"),
    _id("es.dni", r"\d{8}-?[A-Z]", "dni|nif|documento nacional"),
    _id("es.nie", r"[XYZ]-?\d{7}-?[A-Z]", "nie|nif|extranjero"),
    _id("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", "hetu|henkilötunnu\\S*|personbeteckning"),
    _id("fr.nir", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"),
    _id("in_.aadhaar", r"[2-9]\d{3} ?\d{4} ?\d{4}", "aadhaar|aadhar|uidai|uid"),
    _id("it.codicefiscale", r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]"),
    _id("nl.bsn", r"\d{9}|\d{4}\.\d\d\.\d{3}", "bsn|burgerservicenummer|sofinummer"),
    _id("no.fodselsnummer", r"\d{6} \d{5}|\d{11}", "fødselsnummer|personnummer|fnr|fodselsnummer"),
    _id("pl.pesel", r"\d{11}", "pesel"),
    _id("se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}", "personnummer|samordningsnummer|personnr|pnr"),
    _id("us.ssn", r"\d{3}-\d\d-\d{4}", "ssn|social security\\S*"),
)


def number_runs(text: str) -> list[Span]:
    """Where in a text there may be numbers with check digits: looked for once, for all of them."""
    return [found.span() for found in _RUN.finditer(text) if sum(map(str.isdigit, found[0])) >= _FEWEST_DIGITS]


def find_cards(text: str, runs: Sequence[Span]) -> Iterator[Span]:
    """Spans of credit card numbers: an issuer's first digits, its length, the Luhn check; none of the test numbers."""
    for found in _within(_CARD, text, runs):
        digits = re.sub(r"\D", "", found[0])
        start, end = found.span()
        if digits != found[0] and (
            _NUMBER_BEFORE.search(text, max(0, start - 2), start) or _NUMBER_AFTER.match(text, end)
        ):
            continue
        if digits not in _TEST_CARDS and len(set(digits)) > 3 and _is_valid("luhn", digits):
            yield found.span()


def find_ibans(text: str, runs: Sequence[Span]) -> Iterator[Span]:
    """Spans of IBANs: country, length and check digits; none of the examples of the standard."""
    for found in _within(_IBAN, text, runs):
        start, end = found.span()
        while end - start >= 15:  # the last groups may be words of the sentence
            written = text[start:end].replace(" ", "")
            if _is_valid("iban", written):
                if written not in _TEST_IBANS:
                    yield start, end
                break
            if " " not in text[start:end]:
                break
            end = text.rindex(" ", start, end)


def find_ids(text: str, runs: Sequence[Span]) -> Iterator[Span]:
    """Spans of national numbers whose check digits are right."""
    for id in _IDS:
        for found in _within(id.pattern, text, runs):
            named = id.named is None or id.named.search(text, max(0, found.start() - 40), found.start())
            if named and _is_valid(id.check, found[0]):
                yield found.span()


def _within(pattern: re.Pattern[str], text: str, runs: Sequence[Span]) -> Iterator[re.Match[str]]:
    for start, end in runs:
        yield from pattern.finditer(text, start, end + 2)  # two characters more, for what must not follow


def _is_valid(check: str, number: str) -> bool:
    need("stdnum", "looking for numbers with check digits")
    return bool(import_module(f"stdnum.{check}").is_valid(number))

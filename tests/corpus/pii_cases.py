"""Personal data made up in many forms, and what only looks like it. Check digits are worked out here, by hand."""

from __future__ import annotations

import base64
import hashlib
import random
import string
import uuid
from collections.abc import Callable
from typing import NamedTuple

HEX, ALNUM = "0123456789abcdef", string.ascii_letters + string.digits


class Case(NamedTuple):
    """A text, and the value in it that must be found as `kind`; "" and "" where there is nothing to find."""

    text: str
    kind: str
    value: str


def _digits(count: int, r: random.Random, first: str = string.digits) -> str:
    return r.choice(first) + "".join(r.choices(string.digits, k=count - 1))


def _of(alphabet: str, count: int, r: random.Random) -> str:
    return "".join(r.choices(alphabet, k=count))


def _grouped(digits: str, groups: list[int], separator: str) -> str:
    parts, rest = [], digits
    for size in groups:
        parts.append(rest[:size])
        rest = rest[size:]
    return separator.join([*parts, rest] if rest else parts)


def luhn(digits: str) -> str:
    """With its check digit behind it (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return digits + str(-total % 10)


# --- e-mail ---------------------------------------------------------------------------------------------------------
FIRST = ["jane", "bob", "m", "li.wei", "anna-maria", "o'neil", "jürgen", "x99", "sales", "Peter.Van_Dyk", "j.r.r"]
LAST = ["doe", "smith", "müller", "garcia", "k", "nguyen", "o-brien", "2020"]
HOSTS = ["acme", "mail.big-corp", "uni-bonn", "gov", "cs.stanford", "b2b", "x", "sub.sub2.firm"]
TOPS = ["com", "org", "net", "de", "co.uk", "io", "edu", "info", "technology", "museum", "com.br"]


def email(r: random.Random) -> Case:
    local = r.choice(FIRST) + r.choice([".", "_", "+", "-", ""]) + r.choice(LAST)
    value = f"{local}@{r.choice(HOSTS)}.{r.choice(TOPS)}"
    value = value.upper() if r.random() < 0.1 else value
    frame = r.choice(
        [
            "Write to {} today.",
            "<{}>",
            "mailto:{}",
            "({})",
            '"{}"',
            "From: Jane <{}>;",
            "{}, and others",
            "e-mail={}",
            "* {}\n* next",
            "contact:{}",
            "Mail:\t{}",
            "[{}](x)",
            "`{}`",
            "{}.",
            "{}: he said",
            "https://shop.acme.com/confirm?mail={}&step=2",
        ]
    )
    return Case(frame.format(value), "email", f"<{value}>" if "<{}>" in frame else value)


# --- phones ---------------------------------------------------------------------------------------------------------
def phone(r: random.Random) -> Case:
    """Numbers of well-known plans, as they are written there."""
    mobile_de, london = _digits(8, r), _digits(4, r)
    area = r.choice(["212", "415", "617", "312", "206", "512"])
    exchange, line = r.choice("2346789") + _digits(2, r, "02346789"), _digits(4, r)
    shapes = [
        f"+49 151 {mobile_de}",
        f"+49 30 {_digits(7, r, '23456789')}",
        f"+49 (0)30 {_digits(6, r, '23456789')}",
        f"+44 20 7{_digits(3, r)} {london}",
        f"+44 (0)20 7{_digits(3, r)} {london}",
        f"+4420 7{_digits(3, r)}{london}",
        f"+1 {area} {exchange} {line}",
        f"+1-{area}-{exchange}-{line}",
        f"+1 ({area}) {exchange}-{line}",
        f"+1.{area}.{exchange}.{line}",
        f"+1{area}{exchange}{line}",
        f"+33 6 {_digits(2, r, '1267')} {_digits(2, r)} {_digits(2, r)} {_digits(2, r)}",
        f"+34 6{_digits(2, r)} {_digits(3, r)} {_digits(3, r)}",
        f"+39 06 {_digits(8, r, '456789')}",
        f"+81 90-{_digits(4, r, '123456789')}-{_digits(4, r)}",
        f"+86 138 {_digits(4, r)} {_digits(4, r)}",
        f"+91 98{_digits(3, r)} {_digits(5, r)}",
        f"+7 (495) {_digits(3, r, '123456789')}-{_digits(2, r)}-{_digits(2, r)}",
        f"({area}) {exchange}-{line}",
    ]
    if r.random() < 0.7:
        value = r.choice(shapes)
        frame = r.choice(
            ["Call {} now.", "{}", "Tel.: {}", "tel:{}", "Ring {}, please", "at {}.", "office: {};", "[{}]"]
        )
        return Case(frame.format(value), "phone", value)
    value = r.choice(
        [
            f"{area}-{exchange}-{line}",
            f"{area}.{exchange}.{line}",
            f"030 {_digits(7, r)}",
            f"020 7{_digits(3, r)} {london}",
            f"0{_digits(1, r, '12345')} {_digits(2, r)} {_digits(2, r)} {_digits(2, r)} {_digits(2, r)}",
            f"0151/{_digits(8, r)}",
            f"0{_digits(9, r)}",
        ]
    )
    frame = r.choice(
        [
            "Tel: {}",
            "Phone: {}",
            "phone number {}.",
            "Fax {}",
            "Call us at {}",
            "Telefon: {}",
            "Tel. {}",
            "Mobile: {},",
            "Teléfono: {}",
            "Tél. : {}",
            "PHONE {}",
            "Hotline: {}",
        ]
    )
    return Case(frame.format(value), "phone", value)


# --- addresses ------------------------------------------------------------------------------------------------------
def ip(r: random.Random) -> Case:
    if r.random() < 0.3:
        groups = [f"2{r.choice('0468')}{_of(HEX, 2, r)}"] + [
            _of("123456789abcdef", 1, r) + _of(HEX, 3, r) for _ in range(7)
        ]
        value = ":".join(groups) if r.random() < 0.5 else f"{groups[0]}:{groups[1]}::{groups[2]}"
        if value.startswith(("2001:", "2002:")):
            return ip(r)
        return Case(r.choice(["from {} to", "[{}]:443", "{}", "addr={};", "ping6 {}."]).format(value), "ip", value)
    first = r.choice([5, 23, 34, 46, 62, 78, 81, 93, 104, 130, 151, 178, 185, 194, 208, 217])
    value = f"{first}.{r.randrange(20, 255)}.{r.randrange(1, 255)}.{r.randrange(1, 255)}"
    frame = r.choice(
        [
            "from {} port 22",
            "{}",
            "http://{}/x",
            "ping {}.",
            "host={}",
            "({})",
            "{}:8080",
            "{} - - [10/Oct]",
            '"{}"',
            "server {}, then",
            "{}/32",
            "root@{}",
            "X-Forwarded-For: {}",
        ]
    )
    return Case(frame.format(value), "ip", value)


# --- keys -----------------------------------------------------------------------------------------------------------
def key(r: random.Random) -> Case:
    b64 = string.ascii_letters + string.digits + "+/"
    issued = [
        "AKIA" + _of(string.ascii_uppercase + "234567", 16, r),
        f"gh{r.choice('pousr')}_" + _of(ALNUM, 36, r),
        "github_pat_" + _of(ALNUM, 22, r) + "_" + _of(ALNUM, 59, r),
        "glpat-" + _of(ALNUM + "-_", 20, r),
        "xoxb-" + _digits(12, r) + "-" + _digits(12, r) + "-" + _of(ALNUM, 24, r),
        "sk_live_" + _of(ALNUM, 24, r),
        "AIza" + _of(ALNUM + "-_", 35, r),
        "sk-proj-" + _of(ALNUM + "-_", 48, r),
        "sk-" + _of(ALNUM, 48, r),
        "sk-ant-api03-" + _of(ALNUM + "-_", 60, r),
        "hf_" + _of(string.ascii_letters, 34, r),
        "npm_" + _of(ALNUM, 36, r),
        "pypi-AgEIcHlwaS5vcmc" + _of(ALNUM, 80, r),
        "SG." + _of(ALNUM, 22, r) + "." + _of(ALNUM, 43, r),
        "dop_v1_" + _of(HEX, 64, r),
        "shpat_" + _of(HEX, 32, r),
        f"{_digits(9, r, '123456789')}:AA{_of(ALNUM, 33, r)}",
    ]
    jwt = ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"HS256"}', '{"sub":"12345"}')
    )
    issued.append(f"{jwt}.{_of(ALNUM + '-_', 43, r)}")
    if r.random() < 0.6:
        value = r.choice(issued)
        frame = r.choice(
            ["{}", "token {}", "Authorization: Bearer {}", "'{}'", "key={}", "export X={}\n", "`{}`", "({})"]
        )
        return Case(frame.format(value), "key", value)
    value = r.choice([_of(b64, 40, r), _of(HEX, 32, r), _of(HEX, 64, r), _of(ALNUM, 24, r)])
    frame = r.choice(
        [
            'api_key = "{}"',
            "API_KEY={}",
            "aws_secret_access_key = {}",
            "password: {}",
            '"client_secret": "{}"',
            "SECRET_KEY='{}'",
            "token={}",
            "auth_token: '{}'",
            "x-api-key: {}",
            '<add key="ApiKey" value="{}"/>',
        ]
    )
    return Case(frame.format(value), "key", value)


def private_key(r: random.Random) -> Case:
    name = r.choice(["RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED ", "DSA "]) + "PRIVATE KEY"
    body = base64.b64encode(r.randbytes(r.randrange(100, 900))).decode()
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    value = f"-----BEGIN {name}-----\n{lines}\n-----END {name}-----"
    return Case(f"cat id\n{value}\ndone", "private_key", value)


# --- numbers --------------------------------------------------------------------------------------------------------
def credit_card(r: random.Random) -> Case:
    start, length, groups = r.choice(
        [
            ("4", 16, [4, 4, 4, 4]),
            ("51", 16, [4, 4, 4, 4]),
            ("55", 16, [4, 4, 4, 4]),
            ("2300", 16, [4, 4, 4, 4]),
            ("37", 15, [4, 6, 5]),
            ("34", 15, [4, 6, 5]),
            ("6011", 16, [4, 4, 4, 4]),
            ("3530", 16, [4, 4, 4, 4]),
            ("36", 14, [4, 6, 4]),
            ("62", 16, [4, 4, 4, 4]),
        ]
    )
    digits = luhn(start + _digits(length - 1 - len(start), r))
    value = _grouped(digits, groups, r.choice([" ", "-", ""]))
    frame = r.choice(["Card {} declined", "{}", "Visa: {}", "no. {}.", "({})", "pan={}", "card {}, exp 03/29"])
    return Case(frame.format(value), "credit_card", value)


def iban(r: random.Random) -> Case:
    country, length = r.choice([("DE", 18), ("FR", 23), ("NL", 14), ("GB", 18), ("AT", 16), ("CH", 17)])
    bban = {
        "DE": lambda: _digits(18, r),
        "AT": lambda: _digits(16, r),
        "CH": lambda: _digits(17, r),
        "GB": lambda: _of(string.ascii_uppercase, 4, r) + _digits(14, r),
        "NL": lambda: _of(string.ascii_uppercase, 4, r) + _bsn(r, 10),
        "FR": lambda: _rib(r),
    }[country]()
    assert len(bban) == length
    check = 98 - int("".join(str(int(letter, 36)) for letter in bban + country + "00")) % 97
    value = f"{country}{check:02d}{bban}"
    if r.random() < 0.5:
        value = " ".join(value[place : place + 4] for place in range(0, len(value), 4))
    frame = r.choice(["IBAN: {}", "{}", "account {}.", "({})", "to {} by Friday", "IBAN {}, BIC X"])
    return Case(frame.format(value), "iban", value)


def _bsn(r: random.Random, length: int) -> str:
    """Digits that pass the Dutch eleven-test."""
    while True:
        digits = _digits(length, r)
        if sum(int(digit) * (length - place) for place, digit in enumerate(digits)) % 11 == 0:
            return digits


def _rib(r: random.Random) -> str:
    """A French account number with its own key."""
    bank, branch, account = _digits(5, r), _digits(5, r), _digits(11, r)
    return f"{bank}{branch}{account}{97 - (89 * int(bank) + 15 * int(branch) + 3 * int(account)) % 97:02d}"


def national_id(r: random.Random) -> Case:
    year, month, day = r.randrange(50, 100), r.randrange(1, 13), r.randrange(1, 29)
    shape = r.randrange(9)
    if shape == 0:
        number = _digits(8, r)
        value = f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[int(number) % 23]}"
        return Case(f"DNI: {value}", "national_id", value)
    if shape == 1:
        born = f"{r.choice('12')}{year:02d}{month:02d}{r.randrange(1, 95):02d}"
        body = f"{born}{r.randrange(1, 900):03d}{r.randrange(1, 999):03d}"
        value = f"{body}{97 - int(body) % 97:02d}"
        return Case(f"assuré {value} né", "national_id", value)
    if shape == 2:
        digits = _digits(9, r)
        for _ in range(2):
            rest = sum((len(digits) + 1 - place) * int(digit) for place, digit in enumerate(digits)) % 11
            digits += str(0 if rest < 2 else 11 - rest)
        value = f"{digits[:3]}.{digits[3:6]}.{digits[6:9]}-{digits[9:]}"
        return Case(f"CPF {value}.", "national_id", value)
    if shape == 3:
        body = "756" + _digits(9, r)
        check = -sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body)) % 10
        value = _grouped(f"{body}{check}", [3, 4, 4, 2], ".")
        return Case(f"AHV-Nr. {value}", "national_id", value)
    if shape == 4:
        body = f"{year:02d}{month:02d}{day:02d}{r.randrange(1, 998):03d}"
        value = f"{year:02d}.{month:02d}.{day:02d}-{body[6:]}.{97 - int(body) % 97:02d}"
        return Case(f"({value})", "national_id", value)
    if shape == 5:
        serial = f"{r.randrange(2, 899):03d}"
        check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(f"{day:02d}{month:02d}{year:02d}{serial}") % 31]
        value = f"{day:02d}{month:02d}{year:02d}-{serial}{check}"
        return Case(f"hetu {value}", "national_id", value)
    if shape == 6:
        digits = luhn(f"{year:02d}{month:02d}{day:02d}{_digits(3, r)}")
        value = f"{digits[:6]}-{digits[6:]}"
        return Case(f"personnummer {value},", "national_id", value)
    if shape == 7:
        body = f"110101{1900 + year}{month:02d}{day:02d}{_digits(3, r)}"
        weights = [2 ** (17 - place) % 11 for place in range(17)]
        value = body + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 11]
        return Case(f"身份证 {value} 号", "national_id", value)
    value = f"{r.randrange(1, 665):03d}-{r.randrange(1, 99):02d}-{r.randrange(1, 9999):04d}"
    return Case(f"{r.choice(['SSN', 'Social Security number:', 'SSN:'])} {value}", "national_id", value)


# --- what is none of it ---------------------------------------------------------------------------------------------
def nothing(r: random.Random) -> Case:
    sha = hashlib.sha1(r.randbytes(8)).hexdigest()  # noqa: S324
    number = _digits
    texts = [
        f"commit {sha}",
        f"Fixed in {sha[: r.randrange(7, 13)]} and {sha[8:16]}.",
        f"sha256: {hashlib.sha256(r.randbytes(8)).hexdigest()}",
        f"md5 ({_of(HEX, 32, r)})",
        f"git checkout {sha}",
        f"id={uuid.UUID(bytes=r.randbytes(16))}",
        f"{uuid.UUID(bytes=r.randbytes(16))}",
        f"version {r.randrange(10)}.{r.randrange(30)}.{r.randrange(100)}.{r.randrange(100)}",
        f"v{r.randrange(10)}.{r.randrange(30)}.{r.randrange(100)}.{r.randrange(255)} is out",
        f"libssl-{r.randrange(3)}.{r.randrange(10)}.{r.randrange(30)}.{r.randrange(99)}.tar.gz",
        f"Chrome/{r.randrange(80, 140)}.0.{r.randrange(100, 250)}.{r.randrange(200)} Safari/537.36",
        f"See Section {r.randrange(30, 60)}.{r.randrange(9)}.{r.randrange(9)}.{r.randrange(1, 9)}.",
        f"#### {r.randrange(20, 60)}.{r.randrange(9)}.{r.randrange(9)}.{r.randrange(1, 9)}. Standard Collations",
        f"numpy=={r.randrange(3)}.{r.randrange(30)}.{r.randrange(30)}.{r.randrange(1, 200)}",
        f"listen on {r.choice(['127.0.0.1', '169.254.1.2', '192.168.1.17', '10.0.12.3', '255.255.255.0'])}",
        f"route {r.choice(['192.0.2', '198.51.100', '203.0.113'])}.{r.randrange(1, 255)} via",
        r.choice(["::1", "fe80::1ff:fe23:4567:890a", "2001:db8::1", "fd12:3456:789a::1", "ff02::1"]),
        f"std::vector<int>::iterator a::b(dead::beef, {number(3, r)})",
        f"MAC {':'.join(_of(HEX, 2, r) for _ in range(6))}",
        f"at {r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}",
        f"2024-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}T{r.randrange(24):02d}:{r.randrange(60):02d}:00Z",
        f"20240{number(1, r, '123')}{number(2, r, '012')}T120000Z",
        _isbn(r),
        f"ISSN {number(4, r)}-{number(4, r)}",
        f"Order {number(8, r)}, item {number(6, r)}",
        f"order no. {number(3, r)}-{number(7, r)}-{number(7, r)}",
        f"Invoice INV-{number(10, r)}",
        f"tracking 1Z{_of(string.ascii_uppercase + string.digits, 16, r)}",
        f"timestamp 17{number(14, r)}",
        f"ts=1{number(9, r)} id={number(12, r)}",
        f"barcode {number(13, r, '05679')}",
        f"offset {number(16, r, '0789')}",
        f"+{number(5, r)} -{number(4, r)} lines; x = a+{number(3, r)}",
        f"1+{number(6, r)} = {number(7, r)}",
        f"(see {number(3, r)}) {number(3, r)}-{number(2, r)}",
        f"pi = 3.{number(15, r)}; e = 2.{number(14, r)}",
        f"range {number(3, r)}-{number(3, r)}-{number(4, r)}x",
        f"call f({number(4, r)}, {number(4, r)}) or fn({number(10, r)})",
        f"telemetry interval {number(4, r)} ms, cell {number(2, r)},{number(2, r)}",
        f"git clone git@github.com:{r.choice(LAST)}/repo.git",
        f"scp file root@host{number(1, r)}.lan.net:/tmp",
        f"https://user:secret@db{number(1, r)}.internal.net/x",
        f"https://lists.acme.net/message-id/CA{number(9, r)}=x{number(4, r)}@mail.{r.choice(LAST[:2])}.org",
        f"git+https://git.acme.net/a/core@feature{number(2, r)}.branch",
        f"https://cdn.acme.net/npm/@acme/core@{number(1, r)}.{number(2, r)}.1/dist/core.min.js",
        f"someone@{r.choice(['example.com', 'example.org', 'mail.example.net', 'test.example', 'localhost'])}",
        f"icon@{number(1, r, '23')}x.png and @media @param {{x}} foo@bar",
        f"npm i @types/node@{number(2, r)}.{number(1, r)}.{number(1, r)} actions/checkout@v4",
        "@app.route('/x')\n@property.setter\na = b @ c.T",
        f"getty@tty{number(1, r)}.service",
        f"password: {r.choice(['correct', 'changeme', 'your-password-here', '********', 'hunter2', '${DB_PASSWORD}'])}",
        f"token = get_token_from_environment({number(2, r)})",
        f"secret_key = os.environ['SECRET_KEY_{number(2, r)}']",
        "api_key = YOUR_API_KEY_GOES_HERE_1",
        f"access key: AKIAIOSFODNN7EXAMPLE; token: xxxxxxxxxxxxxxxx{number(2, r)}",
        f"token_type: access_token_version_{number(1, r)}",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + base64.b64encode(r.randbytes(90)).decode() + "\n-----END CERTIFICATE-----",
        f"4111 1111 1111 1111 or 5555-5555-5555-4444 in test mode {number(3, r)}",
        "IBAN DE89 3704 0044 0532 0130 00 is the example",
        f"part {_of(string.ascii_uppercase, 2, r)}{number(2, r)} {number(4, r)} {number(4, r)}",
        f"{_of(string.ascii_uppercase, 6, r)}{number(4, r)}",
        f"CREATE TABLE T{number(3, r)} AS SELECT {number(2, r)}-{number(2, r)}-{number(4, r)}",
        f"ids {number(9, r)} {number(9, r)} {number(9, r)}",
        f"phone book, 3rd ed., pp. {number(3, r)}-{number(3, r)}, {number(4, r, '12')}",
    ]
    return Case(r.choice(texts), "", "")


def _isbn(r: random.Random) -> str:
    digits = "978" + _digits(9, r)
    check = -sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10
    written = _grouped(digits + str(check), [3, 1, 4, 4, 1], r.choice(["-", " ", ""]))
    return f"ISBN {written}" if r.random() < 0.5 else written


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "email": email,
    "phone": phone,
    "ip": ip,
    "key": key,
    "private_key": private_key,
    "credit_card": credit_card,
    "iban": iban,
    "national_id": national_id,
}
BEFORE = ["", "As said, ", "In the log:\n", "We saw this in 2023 (page 12). ", "> ", "- ", "été — "]
AFTER = ["", " And so on.", "\nNext line 42.", " (7 of 9)", "\n\n## Next"]


def in_context(case: Case, r: random.Random) -> Case:
    return case._replace(text=r.choice(BEFORE) + case.text + r.choice(AFTER))

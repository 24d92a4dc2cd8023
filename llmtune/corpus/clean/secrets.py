"""API keys, tokens and private keys."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

# What a key begins with → the whole of it, as its issuer documents it.
_ISSUED = {
    "AKIA": r"(?:AKIA|ASIA)[A-Z2-7]{16}",
    "ASIA": r"ASIA[A-Z2-7]{16}",
    "gh": r"gh[pousr]_[A-Za-z0-9]{36,}",
    "github_pat_": r"github_pat_\w{22}_\w{59}",
    "glpat-": r"glpat-[\w-]{20,}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{20,}",
    "_live_": r"[srp]k_live_[A-Za-z0-9]{16,}",
    "_test_": r"[srp]k_test_[A-Za-z0-9]{16,}",
    "whsec_": r"whsec_[A-Za-z0-9+/=]{24,}",
    "AIza": r"AIza[\w-]{35}",
    "ya29.": r"ya29\.[\w-]{40,}",
    "GOCSPX-": r"GOCSPX-[\w-]{28}",
    "sk-": r"sk-(?:(?:proj|svcacct|admin|ant|or)-[\w-]{20,}|[A-Za-z0-9]{32,})",
    "hf_": r"hf_[A-Za-z]{34,}",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-": r"pypi-[\w-]{60,}",
    "SG.": r"SG\.[\w-]{22}\.[\w-]{43}",
    "dop_v1_": r"dop_v1_[0-9a-f]{64}",
    "shp": r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "dckr_pat_": r"dckr_pat_[\w-]{27,}",
    "AGE-SECRET-KEY-": r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
    "eyJ": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{16,}",
    ":AA": r"\d{8,10}:AA[\w-]{33}",
    "hooks.slack.com/services/": r"hooks\.slack\.com/services/T\w+/B\w+/\w{20,}",
}
_PATTERNS = {begins: re.compile(rf"(?<![A-Za-z0-9_-]){pattern}") for begins, pattern in _ISSUED.items()}

# A value behind the name of a secret.
_VALUE = re.compile(r"[=:>]\s?[\"'`]?((?:Bearer |Basic )?[A-Za-z0-9+/_.~-]{16,}+={0,2}+)(?![\w(\[])")
_NAMED = re.compile(
    r"(?:api|access|auth|account|client|secret|private|signing|encryption|session|storage)[ _-]?(?:key|token|secret)s?"
    r"|secret|token|passw(?:or)?d|passphrase|credential|authorization",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"example|your|xxxx|placeholder|changeme|dummy|sample|test|\.\.\.|0123456789|abcdef", re.IGNORECASE
)
_LEAST_ENTROPY = 3.2  # bits a character; 20 random hexadecimal digits have 3.5, words and paths with digits about 3

# Identifiers with a number (`replication_slot_name_2`) have long runs of small letters; random values do not.
_WORDS = re.compile(r"[a-z]{9,}|[a-z]{4,}[_-][a-z]{4,}")
_HEX = re.compile(r"[0-9a-f]+")
# Parts of a path or of a dotted name (`OAuth2Client`, `s3`, `server-key`): whole words, and one number among them.
_PART_WORDS = r"(?:[A-Z]{0,6}[a-z]{2,}+|[A-Z]+(?![a-z])|[A-Z]?[a-z](?![A-Za-z])|[_~-])*+"
_PART = re.compile(rf"{_PART_WORDS}\d{{0,5}}{_PART_WORDS}")
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{1,4}\Z")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"hash|digest|checksum", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_VERIFIER = "SCRAM-SHA-"  # a salt and two hashes, of which one alone would be taken

# Bounded, and nothing in it is tried twice: a manual may begin many blocks and end none. `\n` stands in JSON.
_PRIVATE = re.compile(
    r"-----BEGIN (?P<of>[A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:\s{0,20}[A-Z][A-Za-z-]{1,30}:[^\n]{0,200}\n){0,9}+"
    r"(?P<body>(?:(?:\s|\\[nr]){0,40}[A-Za-z0-9+/=]{1,80}){0,500}+)(?:\s|\\[nr]){0,40}"
    r"(?:-----END (?P=of)-----|\Z)"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40}")  # in each line of a key but the last; without: a placeholder, or prose


def find_keys(text: str) -> Iterator[tuple[int, int]]:
    """Spans of keys and tokens: those that begin as an issuer's do, and random values behind the name of a secret.
    Documented examples (`AKIAIOSFODNN7EXAMPLE`) and placeholders stay."""
    for begins, pattern in _PATTERNS.items():
        if begins in text:
            for found in pattern.finditer(text):
                if not _PLACEHOLDER.search(found[0].replace("_test_", "")) and len(set(found[0][len(begins) :])) > 5:
                    yield found.span()
    for found in _VALUE.finditer(text):
        value = found[1].removeprefix("Bearer ").removeprefix("Basic ")
        name = text[max(0, found.start() - 32) : found.start() + 1]
        is_hash = _VERIFIER in name or (_DIGEST.fullmatch(value) and _HASH.search(name))
        if _is_random(value) and _NAMED.search(name) and not is_hash:
            yield found.end(1) - len(value), found.end(1)


def find_private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Spans of private key blocks with a key in them."""
    if "PRIVATE KEY" in text:
        for found in _PRIVATE.finditer(text):
            if _BASE64.search(found["body"]):
                yield found.span()


def _is_random(value: str) -> bool:
    """Letters and digits without the order of words, a path, a dotted name, a version or a UUID."""
    if _PLACEHOLDER.search(value) or value.count("/") > 2 + len(value) // 20 or value.count(".") > 2:
        return False
    if not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    parts = re.split("[./]", value)
    if _UUID.fullmatch(value) or _SUFFIX.search(value) or (len(parts) > 1 and all(map(_PART.fullmatch, parts))):
        return False
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return entropy >= _LEAST_ENTROPY and (bool(_HEX.fullmatch(value)) or not _WORDS.search(value))

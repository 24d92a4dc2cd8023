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
_VALUE = re.compile(r"[=:>]\s?[\"'`]?((?:Bearer |Basic )?[A-Za-z0-9+/_.~-]{16,}={0,2})(?![\w(\[])")
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

_PRIVATE = re.compile(
    r"-----BEGIN (?P<of>[A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?)-----\n?(?P<body>[A-Za-z0-9+/=\s:.,()-]*?)"
    r"(?:-----END (?P=of)-----|\Z)"
)
_LEAST_KEY = 60  # characters of base64; a shorter body is three dots or a word in a manual


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
        if _is_random(value) and _NAMED.search(text, max(0, found.start() - 32), found.start() + 1):
            yield found.end(1) - len(value), found.end(1)


def find_private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Spans of private key blocks with a key in them."""
    if "PRIVATE KEY" in text:
        for found in _PRIVATE.finditer(text):
            if sum(map(str.isalnum, found["body"])) >= _LEAST_KEY:
                yield found.span()


def _is_random(value: str) -> bool:
    """Letters and digits without the order of words, a path or a version."""
    if _PLACEHOLDER.search(value) or value.count("/") > 2 + len(value) // 20 or value.count(".") > 2:
        return False
    if not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return entropy >= _LEAST_ENTROPY and (bool(_HEX.fullmatch(value)) or not _WORDS.search(value))

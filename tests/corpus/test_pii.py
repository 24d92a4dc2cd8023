"""Personal data: found and masked in made-up cases of many forms, and what only looks like it left alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.corpus.clean.numbers import _IDS
from llmtune.corpus.clean.pii import PLACEHOLDERS, find_pii, hidden, masked
from llmtune.corpus.clean.settings import PiiSettings

from .pii_cases import KINDS, Case, in_context, nothing

EACH = 150  # cases of a kind; of those with nothing in them four times as many


def judged(cases: list[Case]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """(found, missed, false) by kind. A value that is found in part, or as another kind, is missed and false."""
    right, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for case in cases:
        found = [(kind, case.text[start:end]) for start, end, kind in find_pii(case.text, PLACEHOLDERS)]
        false.update(kind for kind, value in found if (kind, value) != (case.kind, case.value))
        if case.kind:
            (right if (case.kind, case.value) in found else missed)[case.kind] += 1
    return right, missed, false


@pytest.mark.parametrize("seed", range(4))
def test_recall_and_precision(seed: int) -> None:
    random_ = random.Random(seed)
    cases = [in_context(make(random_), random_) for make in KINDS.values() for _ in range(EACH)]
    cases += [in_context(nothing(random_), random_) for _ in range(4 * EACH)]
    right, missed, false = judged(cases)
    for kind in KINDS:
        assert right[kind] >= 0.99 * (right[kind] + missed[kind]), (kind, "recall")
        assert right[kind] >= 0.99 * (right[kind] + false[kind]), (kind, "precision")


def test_there_is_a_case_a_setting_and_a_placeholder_for_every_kind() -> None:
    assert set(KINDS) == set(PLACEHOLDERS) == set(PiiSettings.model_fields)


def test_only_what_is_asked_for_is_found() -> None:
    text = "jane@acme.com, +49 30 2345678, 34.120.55.6"
    assert [kind for *_, kind in find_pii(text, ["ip", "email"])] == ["email", "ip"]
    assert masked(text, find_pii(text, ["email"])) == "<EMAIL>, +49 30 2345678, 34.120.55.6"
    assert find_pii(text, []) == []


def test_shown_samples_hide_what_was_found() -> None:
    text = "Call Jane: +49 30 2345678, jane.doe@acme.com"
    assert hidden(text, find_pii(text, PLACEHOLDERS)) == "Call Jane: +00 00 0000000, xxxx.xxx@xxxx.xxx"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '192.168.100.128/25'::cidr, '2001:db8::/32'::inet, 10.1.2.3;",
        "x[1:2, ::3] = a::b; n = 12345678901234567890",
        "for i in range(10):\n\tprint(f'{i:>10}')  # 1234-5678-9012\n",
        "| 1.2.3.4 | 10.0.0.1 | 8.17.1.2 |\n| --- | --- | --- |",
        "git@github.com:acme/repo.git\nuser@localhost\nroot@db:/var",
        "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709 Δ 0xDEADBEEF",
    ],
)
def test_code_stays(text: str) -> None:
    assert find_pii(text, PLACEHOLDERS) == []


@pytest.mark.parametrize(
    "text",
    [
        "The file begins with -----BEGIN PRIVATE KEY----- and is kept on the server. All that follows is secret, too.",
        "The file begins with -----BEGIN PRIVATE KEY----- and what follows stands on the server to the end of it",
        "telnet 192.168.1.100, tel: 192.168.1.100",
        "the function is called 1000000 times; Total calls: 12345678; call 1234567890123",
        "It was last called on 2024-01-15. Call on 2024-01-15. Fax 2024-01-15 10:30:00.",
        "cell 0.1234567; phone 0.1234567; cells: 1 2 3 4 5 6 7; phone: 1 2 3 4 5 6 7",
        "call   8048310 <puts@plt>; callq 00401136; call 08048310; call 0000000000401136",
        "token = settings.OAuth2Client.fetch_token()",
        "private_key: certs/tls1/server-key.pem\nsecret: s3/bucket1/Prod_Keys.json\nkey token: ~/x/Ab9dE3f7GhK2.key",
        "Session token: Kerberos5Ticket.Renewable; private_key: ed25519.Ed25519PrivateKey",
        "token: 123e4567-e89b-12d3-a456-426614174000",
        "password hash: 5f4dcc3b5aa765d61d8327deb882cf99",
        "PASSWORD 'SCRAM-SHA-256$4096:44560wPMLfjqiAzyPDZ/eQ==$4CA054rZlSFEq8Z3FEhToBTa2X6KnWFxFkPwIbKoDe0='",
        "nightly-build 20240115-0145, 010190-1237",
        "9876 2705 4459 5375 5668 3038",
        "ssh -T git@github.com",
        "user@1000.slice, run@2.scope, disk@a.swap",
        "y = X@w.reshape(-1)",
    ],
)
def test_what_looks_alike_in_manuals_stays(text: str) -> None:
    assert find_pii(text, PLACEHOLDERS) == []


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "Call (030) 1234567, cell 0171 2345678, mobile: 415-555-2671.",
            "Call <PHONE>, cell <PHONE>, mobile: <PHONE>.",
        ),
        ("Telephones: 030.1234567; Telefonnummer 2345678", "Telephones: <PHONE>; Telefonnummer <PHONE>"),
        ("client_secret=wJalrXUt8FEMI/K7MDENG/bPxRfiCYzQ9TKEKEY1", "client_secret=<KEY>"),
        ("token: Abc8Q~3kd.K9x2Lm4Pq7Rt", "token: <KEY>"),
        ("personnummer 811228-9874, hetu: 131052-308T", "personnummer <NATIONAL_ID>, hetu: <NATIONAL_ID>"),
        ("Visa 4929 1234 5678 9015 03/29", "Visa <CREDIT_CARD> 03/29"),
        ("Jane <jane@acme.com>, legit@github.com", "Jane <EMAIL>, <EMAIL>"),
    ],
)
def test_the_whole_is_masked_and_nothing_else(text: str, after: str) -> None:
    assert masked(text, find_pii(text, PLACEHOLDERS)) == after


def test_private_keys_with_headers_in_json_and_cut_off() -> None:
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    begin, end = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"
    for body in (
        f"\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C\n\n{line}\n{line}\nab==\n",
        f"\\n{line}\\n{line}\\n",
        f"\n    {line}\n    {line}\n    ",
        f"\n{line * 20}\n",
    ):
        text = f"key: {begin}{body}{end}; more"
        assert masked(text, find_pii(text, PLACEHOLDERS)) == "key: <PRIVATE_KEY>; more"
    cut = f"see\n{begin}\n{line}\n{line[:20]}"
    assert masked(cut, find_pii(cut, PLACEHOLDERS)) == "see\n<PRIVATE_KEY>"


@pytest.mark.parametrize("check", ["nl.bsn", "no.fodselsnummer"])
def test_limits_hold_for_every_form_of_a_number(check: str) -> None:
    (pattern,) = [id.pattern for id in _IDS if id.check == check]
    for number in ("123456789", "1234.56.789", "010190 12345", "01019012345"):
        assert not pattern.search(f"1.{number}"), number
        assert not pattern.search(f"{number}-1"), number


@given(st.text(alphabet=st.sampled_from("ab1 2:.@+-/()<>=\nAKIA_é9")))
def test_masked_text_has_nothing_left_and_the_rest_as_it_was(text: str) -> None:
    found = find_pii(text, PLACEHOLDERS)
    after = masked(text, found)
    assert len(hidden(text, found)) == len(text)
    for start, end, kind in reversed(found):
        assert after.endswith(text[end:])
        after = after[: len(after) - len(text) + end]
        assert after.endswith(PLACEHOLDERS[kind])
        after, text = after.removesuffix(PLACEHOLDERS[kind]), text[:start]
    assert after == text


def test_long_runs_are_looked_at_once() -> None:
    for piece in ("a", "1", "1.", "a@", ":", "A1 ", "+1 ", "(", "=a", "eyJ", "--", "f:"):
        assert find_pii(piece * 20_000, PLACEHOLDERS) == []
    assert find_pii("-----BEGIN PRIVATE KEY-----\n" * 4_000 + '"', PLACEHOLDERS) == []
    assert find_pii("call " + "1" * 100_000 + "x", PLACEHOLDERS) == []

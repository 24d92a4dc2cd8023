"""Personal data: found and masked in made-up cases of many forms, and what only looks like it left alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_recall_and_precision() -> None:
    random_ = random.Random(20)
    cases = [in_context(make(random_), random_) for make in KINDS.values() for _ in range(EACH)]
    cases += [in_context(nothing(random_), random_) for _ in range(4 * EACH)]
    right, missed, false = judged(cases)
    for kind in KINDS:
        assert right[kind] >= 0.98 * (right[kind] + missed[kind]), (kind, "recall")
        assert right[kind] >= 0.98 * (right[kind] + false[kind]), (kind, "precision")


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
        find_pii(piece * 20_000, PLACEHOLDERS)

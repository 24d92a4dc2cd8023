"""Masking: what is protected, and that nothing of it is lost or made up on the way back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.protect import mask, protected_tokens, unmask


@pytest.mark.parametrize(
    ("text", "masked", "spans"),
    [
        ("Set `work_mem` to 64 MB.", "Set [1] to [2].", ["`work_mem`", "64 MB"]),
        ("Use ``a ` b`` here.", "Use [1] here.", ["``a ` b``"]),
        ("Run CREATE TABLE t first.", "Run [1] t first.", ["CREATE TABLE"]),
        ("See http://a.org/b?c=1.", "See [1].", ["http://a.org/b?c=1"]),
        ("(see /etc/hosts, ~/.pgpass)", "(see [1], [2])", ["/etc/hosts", "~/.pgpass"]),
        ("Call foo() or role(s), not (this).", "Call [1] or [2], not (this).", ["foo()", "role(s)"]),
        ("Give --login or -d to it.", "Give [1] or [2] to it.", ["--login", "-d"]),
        ("PostgreSQL's write-ahead log", "[1] write-ahead log", ["PostgreSQL's"]),
        ("Hello {user name}, 3.5% of <b class='x'> and %s", "Hello [1], [2] of [3] and [4]",
         ["{user name}", "3.5%", "<b class='x'>", "%s"]),
        ("the U.S. and, e.g. this", "the [1] and, [2] this", ["U.S.", "e.g."]),
        ("x = y + 1", "x [1] y [2]", ["=", "+ 1"]),
        ("I said: “A table — a view.”", "I said: “A table — a view.”", []),
        ("a [link](b.html) here", "a [1] here", ["[link](b.html)"]),
        ("Das heißt Größe; l'été", "Das heißt Größe; l'été", []),
        ("`array`s of me@host.org", "[1] of [2]", ["`array`s", "me@host.org"]),
    ],
)  # fmt: skip
def test_what_is_protected(text: str, masked: str, spans: list[str]) -> None:
    assert mask(text) == (masked, tuple(spans))
    assert unmask(masked, spans) == text


words = st.sampled_from(
    ["table", "the", "`a b`", "work_mem", "VACUUM", "[x]", "9.33", "{n}", "(see", "it).", "--x", "—"]
)
texts = st.one_of(st.text(max_size=60), st.lists(words, max_size=12).map(" ".join))


@given(texts)
def test_unmasking_undoes_masking(text: str) -> None:
    masked, spans = mask(text)
    assert unmask(masked, spans) == text
    assert not any(span in ("", " ") for span in spans)
    assert Counter(token for span in spans for token in span.split()) == protected_tokens(text)


def test_order_does_not_matter_but_number_does() -> None:
    assert unmask("[2] after [1]", ["`a`", "`b`"]) == "`b` after `a`"
    for wrong in ("[1] only", "[1] [2] [2]", "[1] [2] [3]", "[1] [2] [", "[ 1] [2]"):
        assert unmask(wrong, ["`a`", "`b`"]) is None

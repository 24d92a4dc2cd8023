"""Cutting a text into what stays and the sentences that may be translated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.segments import Segment, pieces_of

PAGE = """\
# The heading stays as it is

The planner estimates the cost of each path. It keeps the cheapest one, e.g. Index scans
that read only a few of the rows, cf. the chapter before.

```sql
-- This comment stays as it is here.
SELECT 1;
```

- The first item says what it does.

  Its second paragraph belongs to it.
  ~~~
  All of this is code as well
  ~~~
1. Another item is numbered and long.

| A table of several words | stays as it is |
| --- | --- |

> A quoted line may be translated too.

    indented code that looks like a sentence

`term` `alias`
What the term means is said below it. Short.
"""


def segments_of(text: str) -> list[str]:
    return [piece.text for piece in pieces_of(text) if isinstance(piece, Segment)]


def test_sentences_of_a_page() -> None:
    assert segments_of(PAGE) == [
        "The planner estimates the cost of each path.",
        "It keeps the cheapest one, e.g. Index scans\nthat read only a few of the rows, cf. the chapter before.",
        "The first item says what it does.",
        "Its second paragraph belongs to it.",
        "Another item is numbered and long.",
        "A quoted line may be translated too.",
        "What the term means is said below it.",
    ]


def test_placeholders_are_numbered_within_the_sentence() -> None:
    first, second = (
        piece for piece in pieces_of("Set `a` to 1 before you start. Then set `b` to 2 and wait.")
        if isinstance(piece, Segment)
    )  # fmt: skip
    assert (first.masked, first.spans) == ("Set [1] to [2] before you start.", ("`a`", "1"))
    assert (second.masked, second.spans) == ("Then set [1] to [2] and wait.", ("`b`", "2"))


def test_a_wrapped_sentence_is_whole_but_terms_stay_apart() -> None:
    wrapped = "A sentence that was wrapped at a width of\nforty characters goes on in the next line."
    assert segments_of(wrapped) == [wrapped]
    (piece,) = (piece for piece in pieces_of(wrapped) if isinstance(piece, Segment))
    assert piece.masked == wrapped.replace("\n", " ")
    assert segments_of("a short term\nthis says what the short term means") == ["this says what the short term means"]


lines = st.sampled_from(
    ["# Head line", "Some plain words that make a sentence. And more of them here.", "- item of a list with words",
     "```", "~~~", "", "    code at the margin", "| a | b |", "> quoted words in a line of it", "`term`",
     "1. first of all", "\ttab", "wrapped words that end without a full stop in a long", "line that goes on"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=80), st.lists(lines, max_size=12).map("\n".join)))
def test_the_pieces_are_the_text(text: str) -> None:
    pieces = list(pieces_of(text))
    assert "".join(piece if isinstance(piece, str) else piece.text for piece in pieces) == text


@given(st.lists(lines, max_size=12))
def test_no_line_of_a_fence_is_translated(before: list[str]) -> None:
    inside = "This would be a sentence if it were not code."
    plain = [line for line in before if line not in ("```", "~~~")]
    text = "\n".join([*plain, "```text", inside, "```"])
    assert all(inside not in segment for segment in segments_of(text))

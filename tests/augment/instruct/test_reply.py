"""What is found in a model's reply, against replies written by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.augment.instruct.reply import pairs_in

PAIR = {"question": "What is a lock?", "answer": "It [1] keeps others away."}
LIST = json.dumps([PAIR])
FOUND = [(PAIR["question"], PAIR["answer"])]


@pytest.mark.parametrize(
    "reply",
    [
        LIST,
        f"Sure!\n```json\n{LIST}\n```\nHere you go.",
        f"{LIST}\n\n[1] Source: the manual",
        f"From [1] and [2]: {LIST} [3]",
        json.dumps({"pairs": [PAIR]}),
        f'<think>A list like [{{"question": …}}], or {json.dumps([PAIR | {"answer": "?"}])}.</think>{LIST}',
        f"It has [2 parts] [{{}}].\n</think>\n\n{LIST}",  # the template has opened it
    ],
)
def test_a_list_of_pairs_wherever_it_stands(reply: str) -> None:
    assert pairs_in(reply) == FOUND


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Sure!",
        "[1, 2]",
        "[1, 2",
        LIST[:-1],
        json.dumps([PAIR, {"question": "Why?"}]),
        json.dumps([PAIR | {"question": None}]),
        json.dumps([PAIR | {"answer": None}]),
        json.dumps([PAIR | {"answer": [PAIR["answer"]]}]),
        json.dumps([PAIR | {"answer": 7}]),
        json.dumps([PAIR | {"answer": "  "}]),
        json.dumps([PAIR, "What?"]),
        f"<think>I could reply with {LIST}",  # and no room was left for the reply
        "[" * 20_000,
        '[{"a":' * 20_000,
        "[" * 20_000 + "]" * 20_000,
    ],
)
def test_rubbish(reply: str) -> None:
    assert pairs_in(reply) is None


def test_nothing_to_ask() -> None:
    assert pairs_in(" [ ]\n") == pairs_in("```json\n[]\n```") == []


def test_answers_may_speak_of_thinking() -> None:
    answer = "The model ends its <think> with </think>."
    assert pairs_in(json.dumps([PAIR | {"answer": answer}])) == [(PAIR["question"], answer)]


texts = st.text(min_size=1).filter(lambda text: text.strip() and "</think>" not in text)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[<`"))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), words, words)
def test_what_a_model_writes_comes_back(pairs: list[tuple[str, str]], before: str, behind: str) -> None:
    """The text around it has no bracket that opens."""
    reply = json.dumps([{"question": question, "answer": answer} for question, answer in pairs])
    assert pairs_in(before + reply + behind) == [(question.strip(), answer.strip()) for question, answer in pairs]


def test_what_is_no_utf8_becomes_text() -> None:
    assert pairs_in(json.dumps([PAIR | {"answer": "Half \ud83d."}])) == [(PAIR["question"], "Half \\ud83d.")]
    assert pairs_in(json.dumps([PAIR | {"answer": "Whole 😀."}])) == [(PAIR["question"], "Whole 😀.")]

"""Evaluation texts are found in documents exactly where a search for the same words in a row finds them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.contamination import SHORTEST, EvaluationTexts
from llmtune.corpus.shingles import words_of

from .conftest import random_text

WORDS = st.lists(st.sampled_from("a b c d e".split()), min_size=1, max_size=14)


@settings(deadline=None, max_examples=200)
@given(evaluation=WORDS, document=st.lists(WORDS, min_size=1, max_size=4), width=st.integers(SHORTEST, 9))
def test_hits_are_those_of_a_plain_search(evaluation: list[str], document: list[list[str]], width: int) -> None:
    text = "\n\n".join(" ".join(paragraph) for paragraph in document)
    texts = EvaluationTexts([("one", " ".join(evaluation))], width)
    need = min(width, len(evaluation))
    said = f" {' '.join(words_of(text))} "
    runs = [" ".join(evaluation[at : at + need]) for at in range(len(evaluation) - need + 1)]
    expected = len(evaluation) >= SHORTEST and any(f" {run} " in said for run in runs)
    hits = texts.hits(text)
    assert bool(hits) == expected
    assert all(hit.words in runs for hit in hits)
    left = texts.cut(text)
    assert not texts.hits(left)
    assert left == text if not expected else len(words_of(left)) < len(words_of(text))


def test_case_punctuation_and_line_ends_do_not_hide_a_text() -> None:
    texts = EvaluationTexts([("quiz#1", "Which command reclaims storage occupied by dead tuples in a table?")], 13)
    document = "Intro.\n\nQ: “WHICH command   reclaims\nstorage -- occupied by dead tuples, in a table”\n\nThe end."
    (hit,) = texts.hits(document)
    assert hit.text == "quiz#1"
    assert hit.words == "which command reclaims storage occupied by dead tuples in a table"
    assert texts.cut(document) == "Intro.\n\nThe end."
    assert not texts.hits("Which command reclaims storage? Occupied by dead tuples.")


def test_each_text_is_told_once_and_with_its_own_name() -> None:
    draw = random.Random(5)
    passages = [random_text(60, draw) for _ in range(50)]
    texts = EvaluationTexts([(f"set#{number}", passage) for number, passage in enumerate(passages)], 13)
    document = f"{random_text(200, draw)} {passages[7]} {random_text(50, draw)} {passages[31]} {passages[7]}"
    assert [hit.text for hit in texts.hits(document)] == ["set#7", "set#31"]
    assert texts.hits(random_text(2000, draw)) == []


@pytest.mark.parametrize("text", ["", "Yes.", "the autovacuum daemon", "!!! ---"])
def test_texts_that_say_too_little_are_passed_over(text: str) -> None:
    texts = EvaluationTexts([("short", text)], 13)
    assert texts.hits(f"Here stands: {text} {text}, and more that was written by hand.") == []


def test_chinese_counts_by_character() -> None:
    texts = EvaluationTexts([("zh", "数据库系统的事务隔离级别有哪几种")], 13)
    assert [hit.text for hit in texts.hits("问:数据库系统的事务隔离级别有哪几种?答:四种。")] == ["zh"]
    assert texts.hits("数据库系统有事务。") == []

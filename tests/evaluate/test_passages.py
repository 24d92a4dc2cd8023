"""Which text is measured."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from llmtune.corpus.store import Document
from llmtune.evaluate.passages import Split, questions_of, text_fingerprint, texts_of
from tests.evaluate.conftest import document, documents


def strings(documents: Iterable[Document], tokens: int) -> list[str]:
    """`texts_of` of documents that are no conversations."""
    return [text for text in texts_of(documents, tokens) if isinstance(text, str)]


def test_neither_texts_nor_questions_depend_on_the_order_of_the_documents() -> None:
    made = documents()
    shuffled = random.Random(5).sample(made, len(made))
    assert strings(made, 3000) == strings(shuffled, 3000)
    assert questions_of(made, 7, 3) == questions_of(shuffled, 7, 3)
    assert questions_of(made, 7, 3) != questions_of(made, 7, 4)


def test_a_smaller_amount_is_the_beginning_of_a_larger() -> None:
    made = documents()
    assert "".join(strings(made, 3000)).startswith("".join(strings(made, 1000)))
    assert questions_of(made, 9, 0)[:4] == questions_of(made, 4, 0)


def test_the_amount_of_text() -> None:
    assert sum(map(len, strings(documents(), 1000))) == 4000
    assert sum(map(len, strings(documents(2), 10_000))) == sum(len(one.text or "") for one in documents(2))
    assert strings(documents(), 0) == []


def test_the_text_is_spread_over_the_documents() -> None:
    """Ten windows out of twenty documents of two: at least six of them, whatever the draw; and whole words."""
    made = documents(20, 7000)
    chosen = strings(made, 10_000)
    assert 10 <= len(chosen) <= 14
    assert sum(map(len, chosen)) == 40_000
    found = [next(one for one in made if piece in (one.text or "")) for piece in chosen]
    assert len({one.id for one in found}) >= 6
    for piece, one in zip(chosen[:-1], found, strict=False):
        before, _, behind = (one.text or "").partition(piece)
        assert piece[0].isspace() or not before
        assert not behind or behind[0].isspace()


def test_all_of_a_long_document_is_read_when_there_is_room() -> None:
    text = " ".join(str(number) for number in range(9000))
    pieces = strings([document(text, "long")], 20_000)
    assert len(pieces) == 11
    assert sorted(" ".join(pieces).split(), key=int) == text.split()
    assert sum(map(len, pieces)) == len(text)


def test_a_split_is_read_from_its_shards(corpus: Path) -> None:
    assert strings(Split(corpus, "test"), 3000) == strings(documents(), 3000)
    assert questions_of(Split(corpus, "test"), 5, 0) == questions_of(documents(), 5, 0)


def test_empty_documents_are_passed_over() -> None:
    assert strings([document("", "a"), document("  \n", "b"), document("words", "c")], 100) == ["words"]
    assert questions_of([document("", "a"), document("short", "b")], 10, 0) == []


def test_the_true_continuation_follows_its_context_and_the_others_do_not() -> None:
    by_text = {one.text or "" for one in documents()}
    questions = questions_of(documents(), 100, 0)
    assert len(questions) > 6
    assert len({one.answer for one in questions}) > 1
    for one in questions:
        (text,) = (text for text in by_text if one.context in text)
        follows = [one.context + choice in text for choice in one.choices]
        assert follows == [number == one.answer for number in range(4)]
        assert all(choice in text and choice[0].isspace() for choice in one.choices)


def test_documents_share_the_questions() -> None:
    made = documents()
    chosen = questions_of(made, len(made), 0)
    assert len({next(d.id for d in made if one.context in (d.text or "")) for one in chosen}) == len(made)


def test_text_without_spaces_between_words() -> None:
    source = random.Random(0)
    text = "".join(chr(source.randrange(0x4E00, 0x9000)) for _ in range(3000))
    questions = questions_of([document(text, "zh")], 3, 0)
    assert questions
    assert all(len(one.context) == 320 and len(choice) == 100 for one in questions for choice in one.choices)


@pytest.mark.parametrize("other", [["ab", "c"], ["a", "bc", ""], ["bc", "a"]])
def test_fingerprints_tell_texts_apart(other: list[str]) -> None:
    assert text_fingerprint(["a", "bc"]) == text_fingerprint(["a", "bc"]) != text_fingerprint(other)

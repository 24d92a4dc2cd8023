"""Hashes of words stand for the words that a regular expression finds, and for nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtune.corpus import shingles
from llmtune.corpus.shingles import hashed, word_hashes, words_of
from llmtune.corpus.text import UNSPACED

TEXTS = st.text(st.sampled_from("abAB09_-. \n\t'éÉßﬁİσςΣ\u0301\u00a0“—漢字かな・ไทยที่ကို\u3099\U0001f600й"), max_size=60)


PLAIN = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


@given(TEXTS | st.text(max_size=60))
@example("の・設定 plea_se read\u0e31")
def test_words_are_those_of_a_plain_expression(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    assert words_of(text) == PLAIN.findall(text.casefold())


@given(st.lists(TEXTS | st.text(max_size=30), min_size=2, max_size=4))
@example(["Straße STRASSE ﬁn FIN", "İstanbul i̇stanbul", "a漢b 漢字", "x_y x y", "\ud83d lone"])
def test_two_hashes_are_equal_when_the_words_are(texts: list[str]) -> None:
    by_word: dict[str, int] = {}
    for text in texts:
        text = text.encode("utf-8", "replace").decode()
        words, hashes = words_of(text), word_hashes(text).tolist()
        assert len(words) == len(hashes)
        for word, found in zip(words, hashes, strict=True):
            assert by_word.setdefault(word, found) == found
    assert len(set(by_word.values())) == len(by_word)


def test_the_hash_is_the_polynomial_of_the_bytes() -> None:
    expected = sum(byte * pow(shingles._BASE, place, 1 << 64) for place, byte in enumerate("größe".encode()))
    mixed = shingles.mix(shingles.np.array([(expected + 7) % (1 << 64)], shingles.np.uint64))
    assert word_hashes("eine GRÖSSE, größe")[1] != mixed[0]  # ß is ss without case
    expected = sum(byte * pow(shingles._BASE, place, 1 << 64) for place, byte in enumerate("größe".casefold().encode()))
    mixed = shingles.mix(shingles.np.array([(expected + 7) % (1 << 64)], shingles.np.uint64))
    assert word_hashes("eine GRÖSSE, größe").tolist()[1:] == [mixed[0]] * 2


@given(st.text("ab, \n", max_size=200))
def test_long_texts_are_worked_on_in_pieces(text: str) -> None:
    whole = hashed(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_TOGETHER", 64)
        shingles._powers.cache_clear()
        pieces = hashed(text)
    shingles._powers.cache_clear()
    if all(len(word) < 60 for word in words_of(text)):
        assert pieces.hashes.tolist() == whole.hashes.tolist()
        assert pieces.paragraphs.tolist() == whole.paragraphs.tolist()


def test_paragraphs_and_characters_that_stand_alone() -> None:
    found = hashed("One two.\n\n漢字 three\n\n\n\nfour\nfive")
    _, numbers = shingles.np.unique(found.paragraphs, return_inverse=True)
    assert numbers.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert found.alone.tolist() == [False, False, True, True, False, False, False]
    assert found.lengths.tolist() == [3, 3, 3, 3, 5, 4, 4]

"""Which documents of a corpus people get, and what of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.annotate.tasks import CUT, Place, is_beginning, places_of, sample, shown_text, split_in, tasks_of
from llmtune.corpus.store import Document, Message, write_split
from llmtune.errors import LlmtuneError


def places(**sizes: int) -> list[Place]:
    return [Place(f"{source}/{n}", source, f"{source} {n}") for source, size in sizes.items() for n in range(size)]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1), st.integers(1, 80), st.integers(0, 9)
)
def test_sources_give_their_share(sizes: dict[str, int], number: int, seed: int) -> None:
    everything = places(**sizes)
    ids = sample(everything, number, seed)
    total = sum(sizes.values())
    assert len(ids) == len(set(ids)) == min(number, total)
    assert set(ids) <= {place.id for place in everything}
    given_ = Counter(id.split("/")[0] for id in ids)
    if number >= len(sizes):
        assert set(given_) == set(sizes)
        for source, size in sizes.items():
            assert abs(given_[source] - len(ids) * size / total) < len(sizes)


def test_the_same_seed_the_same_documents() -> None:
    before = sample(places(a=200, b=100), 60, seed=1)
    assert before == sample(list(reversed(places(a=200, b=100))), 60, seed=1)
    assert before != sample(places(a=200, b=100), 60, seed=2)
    after = sample(places(a=210, b=105), 60, seed=1)
    assert len(set(before) & set(after)) >= 50


def test_those_who_stop_early_have_labelled_of_every_source() -> None:
    """Of each half of thirty samples: two large sources give about as much, one of a single document is in some."""
    first: Counter[str] = Counter()
    for seed in range(30):
        ids = sample(places(a=300, b=300, c=1), 60, seed)
        first.update(id[0] for id in ids[:30])
    assert first["a"] == pytest.approx(450, abs=60)
    assert first["b"] == pytest.approx(450, abs=60)
    assert 8 <= first["c"] <= 22


def test_one_of_each_group_first() -> None:
    crowd = [Place(f"s/{n}", "s", "one" if n < 50 else str(n)) for n in range(60)]
    assert sum(int(id[2:]) < 50 for id in sample(crowd, 11, seed=0)) == 1
    assert len(sample(crowd, 20, seed=0)) == 20


@given(st.text(alphabet="ab \n"), st.integers(1, 30))
def test_long_texts_are_cut_at_white_space(text: str, most: int) -> None:
    shown = shown_text(text, most)
    assert is_beginning(shown, text)
    if len(text) <= most:
        assert shown == text
    else:
        beginning = shown.removesuffix(CUT)
        assert shown == beginning + CUT
        assert text.startswith(beginning)
        assert len(beginning) <= most
        assert not beginning or text[len(beginning)].isspace() or not any(map(str.isspace, beginning.strip()))
    assert not is_beginning(shown + "x", text)


def test_documents_of_a_corpus(tmp_path: Path) -> None:
    turns = (Message("user", "What is it?"), Message("assistant", "A corpus."))
    written = [
        Document("a", "One text.", None, "s", None, "", "g"),
        Document("b", None, turns, "s", None, "", "h"),
        Document("c", "word " * 100, None, "s", None, "", "g"),
    ]
    write_split(tmp_path, "train", written)
    assert [(place.id, place.group) for place in places_of(tmp_path, "train")] == [("a", "g"), ("b", "h"), ("c", "g")]
    tasks = tasks_of(tmp_path, ["train"], ["c", "none", "b", "a"], 20)
    assert [(task.id, task.text) for task in tasks] == [
        ("c", "word word word word […]"),
        ("b", "[user] What is it? […]"),
        ("a", "One text."),
    ]
    with pytest.raises(LlmtuneError, match="there is no 'valid'"):
        split_in(tmp_path, "valid")

"""The translation memory: groups are the same after a kill, and nothing finished is given out again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.augment.engine import RoundTrip
from llmtune.augment.memory import Memory


def trips(group: list[str]) -> list[RoundTrip | None]:
    return [None if text == "failed" else RoundTrip(f"p{text}", text, 1, 2) for text in group]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from("abcdefghij"), max_size=30), st.integers(1, 4), st.integers(0, 5))
def test_a_killed_job_goes_on_with_the_same_groups(texts: list[str], size: int, finished: int) -> None:
    first_seen = list(dict.fromkeys(texts))
    groups = [first_seen[start : start + size] for start in range(0, len(first_seen), size)]
    with TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "m", {"engine": 1})
        for (number, group), _ in zip(memory.groups(iter(texts), size), range(finished), strict=False):
            memory.add(number, group, trips(group))
        memory.close()
        again = Memory(Path(folder) / "m", {"engine": 1})
        left = []
        for number, group in again.groups(iter(texts), size):
            again.add(number, group, trips(group))
            left.append((number, group))
        assert left == list(enumerate(groups))[finished:]
        assert [again[text] for text in first_seen] == trips(first_seen)
        assert list(again.groups(iter(texts), size)) == []
        again.close()


def test_what_is_kept(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m", {"engine": 1})
    memory.add(0, ["a", "failed"], trips(["a", "failed"]))
    assert memory["a"] == RoundTrip("pa", "a", 1, 2)
    assert memory["failed"] is None
    with pytest.raises(KeyError):
        memory["b"]
    other = Memory(tmp_path / "m", {"engine": 2})
    with pytest.raises(KeyError):  # another engine's translations are not ours
        other["a"]

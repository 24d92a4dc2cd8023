"""What of a corpus is shown, and what its languages are told by: a few documents, of which the rest is not read."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmtune.corpus.card import Kept, drawn_from, languages_of
from llmtune.corpus.store import SPLITS, Document, chosen, read_split, write_split

from .conftest import random_text


def stored(top: Path, texts: list[str]) -> list[Kept]:
    """A corpus of these texts, a third of them in each split."""
    names = [SPLITS[number % 3] for number in range(len(texts))]
    documents = [Document(f"s/{n}", text, None, "s", None, "h", "g") for n, text in enumerate(texts)]
    for split in SPLITS:
        write_split(top, split, [one for one, name in zip(documents, names, strict=True) if name == split])
    return [Kept(one.id, name, 0, 1, 1, None, "g") for one, name in zip(documents, names, strict=True)]


@pytest.mark.parametrize(("samples", "drawn"), [(0, 100), (12, 100), (130, 130)])
def test_a_hundred_tell_the_languages_whatever_is_shown(tmp_path: Path, samples: int, drawn: int) -> None:
    text = "The planner estimates the cost of each path and keeps the cheapest one of them for the query. "
    kept = stored(tmp_path, [f"{number} {text * 10}" for number in range(200)])
    found = drawn_from(kept, tmp_path, samples, 7)
    assert len(found) == drawn
    assert languages_of(found) == {"en": 100}
    assert all(one.text == f"{one.entry.id[2:]} {text * 10}"[:600] for one in found)
    assert len({one.entry.id for one in found}) == drawn


def test_whole_documents_do_not_stand_in_memory(tmp_path: Path) -> None:
    text = random_text(15_000, random.Random(1))
    kept = stored(tmp_path, [f"{number} {text}" for number in range(60)])
    drawn_from(kept[:1], tmp_path, 12, 7)  # loads what tells languages
    tracemalloc.start()
    drawn_from(kept, tmp_path, 12, 7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.25 * 60 * len(text)


def test_chosen_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many row groups, of which those without one are not read but for the ids."""
    stored(tmp_path, [f"text {number}" for number in range(9000)])
    wanted = {"s/3", "s/6", "s/8997", "s/8998", "s/none"}
    groups: list[int] = []
    really = pq.ParquetFile.read_row_group

    def noted(self: Any, number: int, columns: list[str] | None = None) -> Any:
        if columns != ["id"]:
            groups.append(number)
        return really(self, number, columns)

    expected = [document for document in read_split(tmp_path, "train") if document.id in wanted]
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert list(chosen(tmp_path, "train", wanted)) == expected
    assert [document.id for document in expected] == ["s/3", "s/6", "s/8997"]
    assert groups == [0, 2]

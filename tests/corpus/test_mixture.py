"""Shares, temperature, repeats and budgets come out in what a training reads, as worked out by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmtune.corpus.mixture import characters_read
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.store import repeats_of
from llmtune.machine import this_machine
from llmtune.stages.corpus import CorpusStage
from llmtune.training.data import build_rows, times_read
from tests.tiny import tiny_tokenizer

from .conftest import Build, random_text

NO_SPLIT = {"valid": 0, "test": 0}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Three sources of 40, 20 and 10 documents of 100 words."""
    draw = random.Random(1)
    found = {}
    for name, documents in (("large", 40), ("middle", 20), ("small", 10)):
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps({"text": random_text(100, draw)}) + "\n" for _ in range(documents)))
    return found


def shares(built: Any) -> dict[str, float]:
    """Share of each source in the characters that a training reads, counted from the documents."""
    read: dict[str, float] = {}
    for document in built.splits["train"]:
        read[document.source] = read.get(document.source, 0) + document.repeats * len(document.text or "")
    return {name: size / sum(read.values()) for name, size in read.items()}


@pytest.mark.parametrize(
    ("sources", "settings", "expected"),
    [
        ({"large": {}, "small": {}}, {}, {"large": 4 / 5, "small": 1 / 5}),
        ({"large": {}, "small": {"repeats": 4}}, {}, {"large": 1 / 2, "small": 1 / 2}),
        ({"large": {}, "small": {"share": 0.4}}, {}, {"large": 0.6, "small": 0.4}),
        ({"large": {"share": 0.1}, "middle": {}, "small": {}}, {}, {"large": 0.1, "middle": 0.6, "small": 0.3}),
        ({"large": {"share": 0.25}, "small": {"share": 0.75}}, {}, {"large": 0.25, "small": 0.75}),
        # sizes 4 : 1, so square roots 2 : 1
        ({"large": {}, "small": {}}, {"temperature": 2}, {"large": 2 / 3, "small": 1 / 3}),
        ({"large": {"max_characters": 3500}, "small": {}}, {}, {"large": 0.41, "small": 0.59}),
        # wanted 10 times as often; four times is the most
        ({"large": {}, "small": {"share": 0.7}}, {}, {"large": 0.5, "small": 0.5}),
    ],
)
def test_shares_of_what_is_read(
    build: Build, places: dict[str, Path], sources: dict[str, Any], settings: dict[str, Any], expected: dict[str, float]
) -> None:
    asked = [{"path": places[name], **more} for name, more in sources.items()]
    built = build(asked, split=NO_SPLIT, **settings)
    found = shares(built)
    assert found == pytest.approx(expected, abs=0.03)
    card = json.loads((built.folder / "card.json").read_text())
    assert {name: one["share"] for name, one in card["mixture"].items()} == pytest.approx(found, abs=0.01)
    assert all(document.repeats >= 1 for document in built.documents)


def test_a_share_that_cannot_be_reached_is_told(build: Build, places: dict[str, Path]) -> None:
    notes: list[str] = []

    from llmtune.monitor import Monitor

    class Listens(Monitor):
        def note(self, text: str) -> None:
            notes.append(text)

    sources = [{"path": places["large"]}, {"path": places["small"], "share": 0.7}]
    build(sources, split=NO_SPLIT, monitor=Listens())
    assert any("source 'small' makes" in note and "it is read 4.0 times already" in note for note in notes)


def test_held_out_texts_are_mixed_alike(build: Build, places: dict[str, Path]) -> None:
    sources = [{"path": places["small"]}, {"path": places["large"], "share": 0.2}]
    built = build(sources, split={"valid": 0, "test": 0.3})
    found: dict[str, int] = {}
    for document in built.splits["test"]:
        found[document.source] = found.get(document.source, 0) + 1
    assert found["small"] >= 2
    assert found.get("large", 0) <= 2  # of about twelve
    assert shares(built)["large"] == pytest.approx(0.2, abs=0.08)


def test_a_budget_keeps_its_choice_when_documents_are_added(build: Build, places: dict[str, Path]) -> None:
    path = places["large"]
    before = {d.text for d in build([{"path": path, "max_characters": 10_000}], split=NO_SPLIT).documents}
    with path.open("a") as file:
        file.write(json.dumps({"text": random_text(100, random.Random(9))}) + "\n")
    built = build([{"path": path, "max_characters": 10_000}], split=NO_SPLIT)
    after = {document.text for document in built.documents}
    assert len(before - after) <= 1
    assert built.metrics["dropped"]["beyond the source's budget"] == 41 - len(after)
    assert sum(len(text or "") for text in after) == pytest.approx(10_000, rel=0.1)


@given(st.lists(st.sampled_from([1.0, 1.25, 2.0, 3.7]), min_size=1, max_size=300))
def test_documents_are_read_as_often_as_said(repeats: list[float]) -> None:
    times = times_read(np.array(repeats))
    for value in set(repeats):
        own = times[np.array(repeats) == value]
        assert abs(own.sum() - value * len(own)) <= 0.5
        assert set(own.tolist()) <= {int(value), int(value) + (value % 1 > 0)}


def test_rows_hold_documents_as_often_as_the_corpus_says(build: Build, places: dict[str, Path]) -> None:
    sources = [{"path": places["small"], "repeats": 2.5}, {"path": places["middle"]}]
    built = build(sources, split=NO_SPLIT)
    assert set(repeats_of(built.folder, "train").tolist()) == {1.0, 2.5}
    rows = build_rows(built.folder, "train", tiny_tokenizer(), row_tokens=64, pack=False)
    plain = build_rows(build([{"path": one["path"]} for one in sources], split=NO_SPLIT).folder, "train",
                       tiny_tokenizer(), row_tokens=64, pack=False)  # fmt: skip
    small = [build_rows(build([{"path": places[name]}], split=NO_SPLIT).folder, "train", tiny_tokenizer(), 64,
                        pack=False).tokens for name in ("small", "middle")]  # fmt: skip
    assert plain.tokens == sum(small)
    assert rows.tokens == pytest.approx(2.5 * small[0] + small[1], rel=0.02)
    assert rows.trained_tokens == sum(int(row.trained.sum()) for row in rows)
    assert rows.counts.dropped_tokens == plain.counts.dropped_tokens == 0


def test_plan_counts_what_is_read(places: dict[str, Path]) -> None:
    sources = [{"path": places["small"], "repeats": 3}, {"path": places["middle"]}]
    plain, mixed = (
        CorpusStage.model_validate({"sources": one}).plan({}, this_machine()).makes.tokens["train"]
        for one in ([{"path": source["path"]} for source in sources], sources)
    )
    assert mixed / plain == pytest.approx((3 * 10 + 20) / 30, rel=0.05)
    assert characters_read([100, 400], CorpusSettings(sources=[{"path": "a", "share": 0.5}, {"path": "b"}])) == 800


@pytest.mark.parametrize(
    "sources",
    [[{"path": "a", "share": 0.5}, {"path": "b", "share": 0.6}], [{"path": "a", "share": 0.9999999}, {"path": "b"}],
     [{"path": "a", "share": 0.5, "repeats": 2}]],
)  # fmt: skip
def test_shares_that_do_not_go_together_are_refused(sources: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match="share"):
        CorpusSettings(sources=sources)

"""Relevance: documents of the seeds' topic stay, others go; and filters as a part of a corpus."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.relevance import RelevanceFilter
from llmtune.corpus.filters.settings import RelevanceSettings
from llmtune.corpus.settings import Source
from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.stages.corpus import CorpusStage
from tests.corpus.conftest import WORDS, Build

TOPICS = {"ours": WORDS[:110], "theirs": WORDS[60:170]}  # a third of the words in common


def write(folder: Path, topic: str, count: int, seed: int) -> Path:
    """Documents of 30 to 200 words of a topic, one in four of them of the words in common."""
    random_ = random.Random(f"{topic} {seed}")
    folder.mkdir(exist_ok=True)
    for number in range(count):
        words = [random_.choice(TOPICS[topic]) for _ in range(random_.randint(30, 200))]
        (folder / f"{topic}-{number:03d}.txt").write_text(" ".join(words))
    return folder


def test_a_score_by_hand(tmp_path: Path) -> None:
    for name, text in (("seeds", "red red blue"), ("general", "red green green green")):
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.txt").write_text(text)
    asked = RelevanceSettings(seeds=tmp_path / "seeds", general=tmp_path / "general", min_score=0)
    ours = Counter({"red": 20, "blue": 10, "red red": 10, "red blue": 10})
    theirs = Counter({"red": 10, "green": 30, "red green": 10, "green green": 20})
    parts = ["red", "blue", "white", "red blue", "blue white"]
    # The 70 words and pairs of the general text count as 50, the number of those in the seeds.
    expected = sum(math.log((ours[part] + 1) / (theirs[part] * 50 / 70 + 1)) for part in parts) / len(parts)
    assert RelevanceFilter(asked, []).score("Red, blue, white!") == pytest.approx(expected)


@pytest.mark.parametrize("general", ["sources", "path"])
def test_documents_of_the_topic_stay(tmp_path: Path, general: str) -> None:
    seeds = write(tmp_path / "seeds", "ours", 30, seed=1)
    sources = write(write(tmp_path / "sources", "ours", 60, seed=2), "theirs", 60, seed=2)
    other = write(tmp_path / "other", "theirs", 40, seed=3)
    asked = RelevanceSettings(seeds=seeds, general="sources" if general == "sources" else other)
    made = RelevanceFilter(asked, [Source(path=sources)])
    kept = {file.name for file in sources.iterdir() if made.judge(View("", "", "", file.read_text())) is None}
    assert sum(name.startswith("ours") for name in kept) >= 54
    assert not any(name.startswith("theirs") for name in kept)


def test_the_share_of_seeds_that_pass(tmp_path: Path) -> None:
    seeds = write(tmp_path / "seeds", "ours", 100, seed=1)
    other = write(tmp_path / "other", "theirs", 40, seed=3)
    fresh = [file.read_text() for file in write(tmp_path / "fresh", "ours", 300, seed=9).iterdir()]
    for share in (0.5, 0.9):
        made = RelevanceFilter(RelevanceSettings(seeds=seeds, general=other, keep_seeds=share), [])
        kept = sum(made.judge(View("", "", "", text)) is None for text in fresh) / len(fresh)
        assert kept == pytest.approx(share, abs=0.12)  # those that it has not seen, too


def test_one_long_seed_is_cut_and_too_few_are_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other", "theirs", 40, seed=3)
    texts = [file.read_text() for file in write(tmp_path / "all", "ours", 60, seed=1).iterdir()]
    (tmp_path / "one.txt").write_text("\n\n".join(texts))
    made = RelevanceFilter(RelevanceSettings(seeds=tmp_path / "one.txt", general=other), [])
    assert made.judge(View("", "", "", texts[0])) is None
    assert str(made.judge(View("", "", "", next(other.iterdir()).read_text()))).startswith("score -")
    (tmp_path / "one.txt").write_text(texts[0])
    with pytest.raises(LlmtuneError, match=r"too few seeds to learn from: 1 documents or pieces"):
        RelevanceFilter(RelevanceSettings(seeds=tmp_path / "one.txt", general=other), [])


def test_what_filters_drop_is_counted_and_shown(build: Build, folder: Path) -> None:
    (folder / "lorem.txt").write_text((folder / "00.txt").read_text() + "\nLorem ipsum dolor sit amet")
    (folder / "long.txt").write_text((folder / "01.txt").read_text() * 9)
    built = build(
        [{"path": folder}], filters={"length": {"min_words": 5, "max_words": 200}, "rules": ["not contains('lorem')"]}
    )
    card, samples = (read_json(built.folder / name) for name in ("card.json", "samples.json"))
    assert card["dropped"] == {"rule not met": 1, "too few or too many words": 1}
    assert card["dropped_named"]["rule not met"] == [{"id": "texts/lorem.txt", "detail": "not contains('lorem')"}]
    detail = {sample["reason"]: sample["detail"] for sample in samples["dropped"]}
    assert detail["too few or too many words"] == "532 words, at most 200 asked for"
    assert len(built.documents) == 20


def test_identity_is_of_the_seeds_contents(tmp_path: Path, folder: Path) -> None:
    def stage(seeds: Path) -> CorpusStage:
        return CorpusStage(sources=[{"path": folder}], filters={"relevance": {"seeds": seeds}})

    seeds = write(tmp_path / "seeds", "ours", 12, seed=1)
    first = stage(seeds).identity()
    assert str(tmp_path) not in repr(first)
    assert "ours-000" not in repr(stage(seeds).described(first))
    write(tmp_path / "seeds", "ours", 12, seed=2)
    assert stage(seeds).identity() != first


def test_plan_tells_what_filters_lack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtune.machine import this_machine

    monkeypatch.setattr("llmtune.corpus.estimate.have", lambda module: False)
    filters = {"languages": {"keep": ["en"]}, "relevance": {"seeds": folder / "missing"}}
    problems = "\n".join(CorpusStage(sources=[{"path": folder}], filters=filters).plan({}, this_machine()).problems)
    assert "telling languages needs the Python package 'py3langid'" in problems
    assert "filters.relevance.seeds" in problems

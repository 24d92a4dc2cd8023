"""The perplexity band: losses are those of transformers' own, what is outside goes, and a killed build reads on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llmtune.corpus import perplexity
from llmtune.corpus.build import build_corpus
from llmtune.corpus.dropped import NAME, read_dropped
from llmtune.corpus.filters.settings import PerplexitySettings
from llmtune.corpus.settings import CorpusSettings
from llmtune.errors import CannotRunHere, LlmtuneError, Stopped
from llmtune.machine import Machine
from llmtune.monitor import Monitor
from llmtune.stages.corpus import CorpusStage
from tests.tiny import TEXT, tiny_checkpoint
from tests.tiny_encoders import tiny_encoder_checkpoint

MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", add_bos=True)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    for number in range(40):
        text = " ".join(TEXT[(number * step + step) % len(TEXT)] for step in range(1, 4 + number % 3))
        (folder / f"{number:02d}.txt").write_text(f"{number} {text}")
    return folder


def settings_of(pages: Path, **filters: Any) -> CorpusSettings:
    return CorpusSettings(sources=[{"path": pages}], filters={"perplexity": filters}, near_duplicates=None)


def transformers_own(model: Path, text: str, tokens: int) -> float:
    """exp of the loss that the model itself gives for labels."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.tensor([AutoTokenizer.from_pretrained(model)(text)["input_ids"][:tokens]])
    with torch.no_grad():
        return math.exp(network(input_ids=ids, labels=ids).loss.item())


def test_what_is_outside_goes(model: Path, pages: Path, tmp_path: Path) -> None:
    expected = {f"pages/{page.name}": transformers_own(model, page.read_text(), 24) for page in sorted(pages.iterdir())}
    low, high = sorted(expected.values())[8], sorted(expected.values())[-9]
    settings = settings_of(pages, model=str(model), min=low * 1.0001, max=high * 0.9999, tokens=24)
    build_corpus(settings, tmp_path / "out", tmp_path / "work", 7)
    dropped = {one.id: one for one in read_dropped(tmp_path / "out" / NAME)}
    assert set(dropped) == {id for id, found in expected.items() if not low < found < high}
    assert {one.reason for one in dropped.values()} == {"perplexity outside the band"}
    for id, one in dropped.items():
        assert float(one.detail.split(",")[0]) == pytest.approx(expected[id], rel=1e-3)
        assert ("below" in one.detail) == (expected[id] <= low)


class _Stops(Monitor):
    """Asks to stop in the middle of the reading."""

    def __init__(self, after: int) -> None:
        self.left, self.reading = after, False

    def bar(self, what: str, *rest: Any, **more: Any) -> Any:
        self.reading = what == "perplexity"
        return super().bar(what, *rest, **more)

    def safe_point(self) -> None:
        self.left -= self.reading
        if self.left < 0:
            raise Stopped("as asked")


def test_what_was_read_is_not_read_again(
    model: Path, pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after a stop, nor by a build with another band or with one page more, where there is a cache."""
    read: list[str] = []
    real = perplexity._Reader.__call__
    monkeypatch.setattr(perplexity._Reader, "__call__", lambda self, texts: read.extend(texts) or real(self, texts))
    settings = settings_of(pages, model=str(model), max=1e9)
    cache = tmp_path / "cache"
    with pytest.raises(Stopped):
        build_corpus(settings, tmp_path / "a", tmp_path / "work", 7, _Stops(1), cache)
    assert 16 <= len(read) <= 32
    build_corpus(settings, tmp_path / "b", tmp_path / "work", 7, None, cache)
    assert sorted(read) == sorted({page.read_text() for page in pages.iterdir()})
    read.clear()
    with pytest.raises(LlmtuneError, match="perplexity outside the band"):
        build_corpus(settings_of(pages, model=str(model), max=1.5), tmp_path / "c", tmp_path / "w2", 7, None, cache)
    assert not read
    (pages / "99.txt").write_text(" ".join(TEXT))
    build_corpus(settings, tmp_path / "d", tmp_path / "w3", 7, None, cache)
    assert len(read) <= 16


def test_what_is_wrong_is_said(pages: Path, tmp_path: Path) -> None:
    for wrong in ({}, {"min": 50, "max": 10}, {"max": 0.5}):
        with pytest.raises(ValidationError):
            PerplexitySettings.model_validate({"model": "tiny", **wrong})
    encoder = tiny_encoder_checkpoint(tmp_path / "bert")
    with pytest.raises(CannotRunHere, match="is an encoder"):
        build_corpus(settings_of(pages, model=str(encoder), max=9), tmp_path / "out", tmp_path / "work", 7)
    stage = CorpusStage(sources=[{"path": pages}], filters={"perplexity": {"model": str(tmp_path / "none"), "max": 9}})
    assert any("filters.perplexity.model" in problem for problem in stage.plan({}, MACHINE).problems)


def test_plan_and_identity(model: Path, pages: Path) -> None:
    plain = CorpusStage(sources=[{"path": pages}])
    read = CorpusStage(sources=[{"path": pages}], filters={"perplexity": {"model": str(model), "max": 9}})
    assert read.plan({}, MACHINE).memory > plain.plan({}, MACHINE).memory
    assert read.plan({}, MACHINE).seconds > plain.plan({}, MACHINE).seconds
    assert str(model) not in str(read.identity()["filters"])
    assert read.identity() != plain.identity()


def test_texts_too_short_to_have_one_stay(model: Path) -> None:
    reader = perplexity._Reader(PerplexitySettings(model=str(model), max=9), Monitor())
    none, some = reader._losses([[5], [5, 6, 7]])
    assert none is None
    assert some is not None

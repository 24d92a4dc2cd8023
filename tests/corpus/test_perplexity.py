"""The perplexity band: losses are those of transformers' own, what is outside goes, and a killed build reads on."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
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


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model reads from now on."""
    texts: list[str] = []
    real = perplexity._Reader.__call__
    monkeypatch.setattr(perplexity._Reader, "__call__", lambda self, some: texts.extend(some) or real(self, some))
    return texts


@pytest.fixture
def again(model: Path, pages: Path, tmp_path: Path, read: list[str]) -> Callable[[], list[str]]:
    """again() → what a build reads that shares its cache with those before."""
    builds = iter(range(99))

    def build() -> list[str]:
        read.clear()
        top = tmp_path / f"build-{next(builds)}"
        settings = settings_of(pages, model=str(model), max=1e9)
        build_corpus(settings, top / "out", top / "work", 7, None, tmp_path / "cache")
        return sorted(read)

    return build


def texts_of(pages: Path) -> list[str]:
    return sorted({page.read_text() for page in pages.iterdir()})


def test_what_was_read_is_not_read_again(
    model: Path, pages: Path, tmp_path: Path, read: list[str], again: Callable[[], list[str]]
) -> None:
    """Neither after a stop, nor by a build with another band or with a few pages more, where there is a cache."""
    cache = tmp_path / "cache"
    with pytest.raises(Stopped):
        build_corpus(
            settings_of(pages, model=str(model), max=1e9), tmp_path / "a", tmp_path / "w", 7, _Stops(20), cache
        )
    assert len(read) == 16
    assert sorted([*read, *again()]) == texts_of(pages)
    read.clear()
    with pytest.raises(LlmtuneError, match="perplexity outside the band"):
        build_corpus(settings_of(pages, model=str(model), max=1.5), tmp_path / "c", tmp_path / "w2", 7, None, cache)
    assert not read
    for place in ("00-new", "20-new", "99"):
        (pages / f"{place}.txt").write_text(f"{place} {' '.join(TEXT)}")
    (pages / "40.txt").write_text((pages / "00.txt").read_text())
    (pages / "41.txt").write_text((pages / "99.txt").read_text())
    assert again() == sorted((pages / f"{place}.txt").read_text() for place in ("00-new", "20-new", "99"))


@pytest.mark.parametrize("damage", [lambda data: b"x" * 100, lambda data: data[: len(data) // 2]])
def test_damaged_losses_are_made_again(
    pages: Path, tmp_path: Path, again: Callable[[], list[str]], damage: Callable[[bytes], bytes]
) -> None:
    again()
    (losses,) = tmp_path.glob("cache/perplexity-*/losses.sqlite")
    losses.write_bytes(damage(losses.read_bytes()))
    assert again() == texts_of(pages)
    assert again() == []


def test_losses_in_use_stay(tmp_path: Path, again: Callable[[], list[str]]) -> None:
    """They were written long ago, and others that nobody uses as well."""
    again()
    (place,) = tmp_path.glob("cache/perplexity-*")
    unused = place.with_name("perplexity-of-another-model")
    unused.mkdir()
    for folder in (place, unused):
        os.utime(folder, (time.time() - 40 * 86_400,) * 2)
    assert again() == []
    assert place.exists()
    assert not unused.exists()


def test_other_versions_read_again(
    pages: Path, again: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    again()
    monkeypatch.setattr(perplexity, "version", lambda package: "0.0" if package == "transformers" else "1.0")
    assert again() == texts_of(pages)


def test_a_loss_that_is_no_number_is_an_error(model: Path, pages: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(model, tmp_path / "broken")
    (file,) = broken.glob("*.safetensors")
    tensors = load_file(file)
    (norm,) = (name for name in tensors if name.endswith("model.norm.weight"))
    save_file(tensors | {norm: tensors[norm] * math.nan}, file, metadata={"format": "pt"})
    with pytest.raises(LlmtuneError, match=r"broken gives the document pages/00.txt a loss of nan"):
        build_corpus(settings_of(pages, model=str(broken), max=9), tmp_path / "out", tmp_path / "work", 7)


def test_long_texts_of_few_tokens_are_read_on(model: Path) -> None:
    """A page of rules has many more characters a token than prose. Here a token is a line."""
    reader = perplexity._Reader(PerplexitySettings(model=str(model), max=9, tokens=16), Monitor())
    cut: list[int] = []

    def tokenized(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        cut.extend(map(len, texts))
        return {"input_ids": [list(map(len, text.split("\n"))) for text in texts]}

    reader._tokenizer = tokenized
    rules = "\n".join("-" * (70 + line) for line in range(99))
    prose = "\n".join("word" for _ in range(9999))
    assert reader._beginnings([rules, "short", prose]) == [list(range(70, 86)), [5], [4] * 16]
    assert sum(cut) < len(prose) / 5


def test_what_is_wrong_is_said(pages: Path, tmp_path: Path) -> None:
    for wrong in ({}, {"min": 50, "max": 10}, {"max": 0.5}):
        with pytest.raises(ValidationError):
            PerplexitySettings.model_validate({"model": "tiny", **wrong})
    encoder = tiny_encoder_checkpoint(tmp_path / "bert")
    with pytest.raises(CannotRunHere, match="is an encoder"):
        build_corpus(settings_of(pages, model=str(encoder), max=9), tmp_path / "out", tmp_path / "work", 7)
    for name, said in (("none", "was not found"), ("bert", "is an encoder")):
        filters = {"perplexity": {"model": str(tmp_path / name), "max": 9}}
        (problem,) = CorpusStage(sources=[{"path": pages}], filters=filters).plan({}, MACHINE).problems
        assert problem.startswith("filters.perplexity.model: ")
        assert said in problem


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

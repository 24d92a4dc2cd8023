"""Small corpora made of seeded random words, and one call that builds a corpus from a folder."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtune.corpus import pieces
from llmtune.corpus.build import build_corpus
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.reader import RawDocument, Rejected
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.store import SPLITS, Document, read_split

WORDS = [f"{start}{middle}{end}" for start in "bdfklmnprst" for middle in "aeiou" for end in ("n", "rk", "st", "lim")]


def random_text(words: int, random_: random.Random) -> str:
    """`words` random words with line breaks."""
    return "\n".join(" ".join(random_.choices(WORDS, k=10)) for _ in range(max(1, words // 10)))


def changed(text: str, share: float, random_: random.Random) -> str:
    """A copy with `share` of the words replaced by new ones (at least one)."""
    words = text.split(" ")
    for index in random_.sample(range(len(words)), max(1, int(share * len(words)))):
        words[index] = f"x{random_.randrange(10**6)}"
    return " ".join(words)


def read(path: Path, format: str, **settings: Any) -> list[RawDocument | Rejected]:
    """What a file holds, by the reader of a format. settings: of the source."""
    return list(reader_of(format).read(path, Source(path=path, format=format, **settings)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("LLMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of more than 8 kB are large ones, in pieces of 4 kB."""
    monkeypatch.setattr(pieces, "_BYTES", 4000)
    monkeypatch.setattr(pieces, "_LARGE", 8000)
    monkeypatch.setattr("llmtune.corpus.readers.parquet._OF_FOOTER", 0)


class Built:
    """A corpus that was built: its folder, metrics and documents by split."""

    def __init__(self, folder: Path, metrics: dict[str, Any]) -> None:
        self.folder = folder
        self.metrics = metrics
        self.splits: dict[str, list[Document]] = {split: list(read_split(folder, split)) for split in SPLITS}

    @property
    def documents(self) -> list[Document]:
        return [document for documents in self.splits.values() for document in documents]


Build = Callable[..., Built]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """build(sources, seed=…, **settings) → Built, each in a new folder."""
    count = 0

    def make(sources: list[dict[str, Any]], *, seed: int = 7, monitor: Any = None, **settings: Any) -> Built:
        nonlocal count
        count += 1
        output = tmp_path / f"corpus-{count}"
        output.mkdir()
        metrics = build_corpus(
            CorpusSettings(sources=sources, **settings), output, tmp_path / f"work-{count}", seed, monitor
        )
        return Built(output, metrics)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `texts` of twenty documents of about 60 words."""
    random_ = random.Random(3)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(20):
        (texts / f"{number:02d}.txt").write_text(random_text(60, random_))
    return texts

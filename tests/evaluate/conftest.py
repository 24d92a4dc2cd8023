"""A tiny model and a tiny corpus that the tests of the scores share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from llmtune.corpus.store import Document, write_split
from llmtune.corpus.text import content_hash
from tests.tiny import tiny_checkpoint

WORDS = (
    "planner", "index", "tables", "query", "cost", "path", "value", "row", "caller", "function", "sorts", "scans",
    "keeps", "yields", "each", "the",
)  # fmt: skip


def document(text: str, name: str) -> Document:
    sha256 = content_hash(text, None)
    return Document(name, text, None, "toy", "CC0-1.0", sha256, group=sha256[:16])


def documents(count: int = 6, characters: int = 3400) -> list[Document]:
    """Documents of random sentences, from fixed seeds."""
    made = []
    for number in range(count):
        source = random.Random(number)
        text = ""
        while len(text) < characters:
            text += " ".join(source.choices(WORDS, k=9)).capitalize() + f" {source.randrange(100)}é.\n"
        made.append(document(text, f"toy/{number}"))
    return made


def defining(count: int, pairs: int = 12, form: str = "{}\n{}") -> list[Document]:
    """Documents that define names of one kind in sentences of other words."""
    made = []
    for number in range(count):
        source = random.Random(number)
        names = ["".join(source.choices("bdfgklmnprtvz", k=5)) + "_mem" for _ in range(pairs)]
        told = (f"Holds {' '.join(source.choices(WORDS, k=7))} {number}." for _ in names)
        lines = "\n\n".join(form.format(*one) for one in zip(names, told, strict=True))
        made.append(document(f"# Manual {number}\n\n{lines}\n", f"toy/{number}"))
    return made


def write_corpus(
    folder: Path, test: Sequence[Document], valid: Sequence[Document] = (), train: Sequence[Document] = ()
) -> Path:
    write_split(folder, "train", train)
    write_split(folder, "test", test)
    write_split(folder, "valid", valid)
    return folder


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from more, and lose much where others use the cores too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), documents(), documents(9)[6:], defining(2))

"""Small corpora for the tests of training data."""

from pathlib import Path

from llmtune.corpus.store import Document, Message, write_split


def text(identity: str, content: str) -> Document:
    return Document(identity, content, None, "test", None, "", identity)


def chat(identity: str, *turns: tuple[str, str]) -> Document:
    return Document(identity, None, tuple(Message(*turn) for turn in turns), "test", None, "", identity)


def corpus_of(folder: Path, *documents: Document, split: str = "train") -> Path:
    write_split(folder, split, documents)
    return folder

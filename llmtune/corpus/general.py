"""General text that is not the domain, to measure what training on the domain makes a model forget."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llmtune.corpus.clean.unicode import clean_text, cleaned
from llmtune.corpus.intake import everything
from llmtune.corpus.readers.reader import RawDocument
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import source_names
from llmtune.corpus.store import Document
from llmtune.corpus.text import characters_of, content_hash
from llmtune.errors import LlmtuneError
from llmtune.words import printable, visible

LICENCES = "licences"
_LICENCE_FILE = re.compile(r"(?:^|[/\\])[^/\\]*(?:licen[cs]e|copying|notice|eula)[^/\\]*$", re.IGNORECASE)
_NOT_TEXT = (".py", ".pyc", ".json", ".html", ".pyi", ".so", ".js", ".css")
_LONGEST = 20_000  # characters taken of one licence text: some wheels carry those of hundreds of libraries in one file
_COPYRIGHT = re.compile(r"^.*(?:copyright|\(c\)|©|all rights reserved).*$", re.IGNORECASE | re.MULTILINE)


def general_text(source: str | Path = LICENCES, max_characters: int = 400_000) -> list[Document]:
    """Up to `max_characters` characters of text, in a fixed order.

    source: "licences" for the licence texts of the installed Python distributions (legal English, on every machine, so
    no network is needed; another set of packages gives another text, so compare models on one machine only), or a file
    or folder of any format the corpus reads. Texts that differ only in their copyright lines count once.

    Raises LlmtuneError when the place does not exist or holds no text."""
    found = _licences() if source == LICENCES else _read(Path(source))
    chosen: list[Document] = []
    seen: set[str] = set()
    left = max_characters
    for document in found:
        key = _wording(document)
        if key in seen:
            continue
        seen.add(key)
        cut = document
        if document.text is not None and len(document.text) > left:
            text = document.text[:left].rstrip()
            cut = replace(document, text=text, sha256=content_hash(text, None))
        size = characters_of(cut.text, cut.messages)
        if size == 0:
            continue
        if size > left:
            break
        chosen.append(cut)
        left -= size
        if left == 0:
            break
    if not chosen:
        raise LlmtuneError(
            "no general text to measure forgetting with",
            where=str(source),
            fix="name a file or folder with text that is not of the domain",
        )
    return chosen


def _licences() -> Iterator[Document]:
    """The licence texts of the installed distributions, by distribution and file name."""
    named: list[tuple[str, str, Path]] = []
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        for file in distribution.files or ():
            if ".dist-info" in str(file.parent) and _LICENCE_FILE.search(str(file)) and file.suffix not in _NOT_TEXT:
                inside = str(file).partition(".dist-info/")[2]
                named.append((name, inside, Path(str(distribution.locate_file(file)))))
    for name, inside, path in sorted(set(named)):
        try:
            raw = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # listed but not there, or in some old encoding: the next one will do
        text = clean_text(raw)[:_LONGEST].rstrip()
        if len(text) >= 200:
            yield _document(f"{LICENCES}/{name}/{inside}", LICENCES, RawDocument(text=text))


def _read(path: Path) -> Iterator[Document]:
    source = Source(path=path)
    name = source_names([source])[0]
    for file, raw in everything(source):
        if isinstance(raw, RawDocument):
            yield _document(f"{name}/{file.name}{raw.part}", name, raw)
        elif not raw.part and file.format is not None and file.problem is None:
            raise LlmtuneError(visible(f"{raw.reason}: {raw.detail}"), where=visible(file.place))


def _document(id: str, source: str, raw: RawDocument) -> Document:
    text, messages = cleaned(raw)
    sha256 = content_hash(text, messages)
    licence = printable(raw.licence) if raw.licence else None
    return Document(id, text, messages, source, licence, sha256, group=sha256[:16])


def _wording(document: Document) -> str:
    """Hash of the words alone, copyright lines left out: the same MIT licence of two authors has one."""
    if document.text is None:
        return document.sha256
    words = re.findall(r"\w+", _COPYRIGHT.sub("", document.text).casefold())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()

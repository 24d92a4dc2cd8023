"""How large a corpus will be, from file sizes and a few files read: cheap enough for a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmtune.corpus.readers import FORMATS, reader_of
from llmtune.corpus.readers.reader import Rejected, Unreadable
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import FileOf, files_of, source_names
from llmtune.corpus.text import characters_of
from llmtune.errors import LlmtuneError
from llmtune.extras import have, missing

CHARACTERS_PER_TOKEN = 3.75  # SmolLM2's tokenizer: 3.82 on the PostgreSQL pages, 3.71 on Python's documentation
_SAMPLED_FILES = 48  # a source
_SAMPLED_BYTES = 400_000  # larger files are not sampled
_PYTHON_DOCS = (450, 2_100_000)  # documents, characters, in Python 3.11


@dataclass
class Estimate:
    """documents and characters that pass the readers; largest: bytes of the largest file; problems: sentences that say
    why the corpus can not be made here."""

    documents: int = 0
    characters: int = 0
    file_bytes: int = 0
    largest: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """In a tokenizer of common size for English text and code."""
        return round(self.characters / CHARACTERS_PER_TOKEN)


def estimate(settings: CorpusSettings) -> Estimate:
    """Look at every source: what is there, what a few dozen of its files give, what is missing."""
    result = Estimate()
    if settings.near_duplicates is not None and not have("rensa"):
        result.problems.append(str(missing("rensa", "looking for near-duplicates")))
    for source, name in zip(settings.sources, source_names(settings.sources), strict=True):
        try:
            _add(result, source, name)
        except LlmtuneError as error:
            result.problems.append(f"source '{name}': {error}")
    return result


def _add(result: Estimate, source: Source, name: str) -> None:
    if source.format == "python-docs":
        result.documents += _PYTHON_DOCS[0]
        result.characters += _PYTHON_DOCS[1]
        return
    files = [file for file in files_of(source) if file.format is not None]
    modules = {module for file in files for module in FORMATS[str(file.format)].modules}
    absent = sorted(module for module in modules if not have(module))
    for module in absent:
        result.problems.append(str(missing(module, f"reading the source '{name}'")))
    size = sum(file.bytes for file in files)
    documents, characters, sampled = _sample(files, source) if not absent else (0, 0, 0)
    if sampled:
        result.documents += round(documents * size / sampled)
        result.characters += round(characters * size / sampled)
    else:
        result.documents += len(files)
        result.characters += round(sum(file.bytes * FORMATS[str(file.format)].text_share for file in files))
    result.file_bytes += size
    result.largest = max(result.largest, *(file.bytes for file in files), 0) if files else result.largest


def _sample(files: list[FileOf], source: Source) -> tuple[int, int, int]:
    """(documents, characters, bytes) of a few dozen files spread evenly over those that are small enough."""
    small = [file for file in files if 0 < file.bytes <= _SAMPLED_BYTES]
    step = max(1, len(small) // _SAMPLED_FILES)
    documents = characters = size = 0
    for file in small[::step][:_SAMPLED_FILES]:
        try:
            for raw in reader_of(str(file.format)).read(file.path, source):
                if not isinstance(raw, Rejected):
                    documents += 1
                    characters += characters_of(raw.text, raw.messages)
        except (Unreadable, OSError):
            pass  # counts as bytes without text, as it will in the corpus
        size += file.bytes
    return documents, characters, size

"""How large a corpus will be, from file sizes and a few files read: cheap enough for a plan."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from llmtune.corpus.earlier import splits_of
from llmtune.corpus.filters import modules_of
from llmtune.corpus.filters.settings import PerplexitySettings
from llmtune.corpus.intake import raw_documents
from llmtune.corpus.pieces import most_of_one
from llmtune.corpus.readers import FORMATS
from llmtune.corpus.readers.delimited import first_rows
from llmtune.corpus.readers.jsonl import first_records
from llmtune.corpus.readers.reader import RawDocument, Rejected
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import FileOf, files_of, source_names
from llmtune.corpus.text import characters_of
from llmtune.corpus.unopened import not_opened
from llmtune.errors import LlmtuneError
from llmtune.extras import have, missing
from llmtune.machine import Machine
from llmtune.models.families import encoder_problem
from llmtune.models.find import find_shape

CHARACTERS_PER_TOKEN = 3.75  # SmolLM2's tokenizer: 3.82 on the PostgreSQL pages, 3.71 on Python's documentation
_MODEL_LIBRARIES, _START_SECONDS = 500 << 20, 10.0  # a model that reads: what torch takes, and seconds to load it
_SAMPLED_FILES = 48  # a source
_SAMPLED_BYTES = 400_000  # of larger files only the first records are read, where they have records
_CUT = {"jsonl": first_records, "csv": first_rows}
_PYTHON_DOCS = (450, 2_100_000)  # documents, characters, in Python 3.11


@dataclass
class Estimate:
    """documents and characters that pass the readers; largest: bytes that one worker reads of one file, at most;
    problems: sentences that say why the corpus can not be made here; by_source: characters of each source; spool: bytes
    of the largest file that has to be unpacked or fetched to be read."""

    documents: int = 0
    characters: int = 0
    file_bytes: int = 0
    largest: int = 0
    spool: int = 0
    problems: list[str] = field(default_factory=list)
    by_source: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """In a tokenizer of common size for English text and code."""
        return tokens_of(self.characters)


def tokens_of(characters: int) -> int:
    """Tokens that so many characters of English text and code are in a tokenizer of common size."""
    return round(characters / CHARACTERS_PER_TOKEN)


def estimate(settings: CorpusSettings) -> Estimate:
    """Look at every source: what is there, what a few dozen of its files give, what is missing."""
    result = Estimate()
    if settings.near_duplicates is not None and not have("rensa"):
        result.problems.append(str(missing("rensa", "looking for near-duplicates")))
    if settings.engine == "ray" and not have("ray"):
        result.problems.append(str(missing("ray", "`engine: ray`")))
    for module, needed_for in (modules_of(settings.filters) | settings.clean.modules).items():
        if not have(module):
            result.problems.append(str(missing(module, needed_for)))
    compared = {"known": settings.known_sources}
    if settings.decontaminate is not None:
        compared["decontaminate.against"] = settings.decontaminate.sources
    if settings.filters.relevance is not None:
        for setting, sources in settings.filters.relevance.sources.items():
            compared[f"filters.relevance.{setting}"] = sources
    for setting, sources in compared.items():
        try:
            formats = {file.format for source in sources for file in files_of(source) if file.format}
            modules = {module for format in formats for module in FORMATS[format].modules}
            result.problems += [
                str(missing(module, f"reading `{setting}`")) for module in sorted(modules) if not have(module)
            ]
        except LlmtuneError as error:
            result.problems.append(f"{setting}: {error}")
    if settings.split.earlier is not None:
        try:
            splits_of(settings.split.earlier)
        except LlmtuneError as error:
            result.problems.append(f"split.earlier: {error}")
    for source, name in zip(settings.sources, source_names(settings.sources), strict=True):
        before = result.characters
        try:
            _add(result, source, name)
        except LlmtuneError as error:
            result.problems.append(f"source '{name}': {error}")
        result.by_source.append(result.characters - before)
    return result


@dataclass(frozen=True)
class Reading:
    """What a language model that reads the documents takes: bytes of the process, and seconds."""

    memory: int
    seconds: float


def reading_estimate(settings: PerplexitySettings, found: Estimate, machine: Machine) -> Reading:
    """Of measuring perplexities; a model that is not to be found, or predicts no text, goes among the problems."""
    try:
        shape = find_shape(settings.model)
    except LlmtuneError as error:
        found.problems.append(f"filters.perplexity.model: {error}")
        return Reading(_MODEL_LIBRARIES, 0)
    if problem := encoder_problem(shape.config, "`filters.perplexity`"):
        found.problems.append(f"filters.perplexity.model: {problem}")
    tokens = min(found.tokens, found.documents * settings.tokens)
    rate = machine.rate("bf16" if machine.computes_in_bf16 else "fp32")
    weights = shape.bytes * (1 if machine.computes_in_bf16 else 2)
    logits = 10 * settings.tokens * shape.vocab_size  # as the model gives them, and in fp32
    return Reading(_MODEL_LIBRARIES + weights + logits, _START_SECONDS + 2 * shape.parameters * tokens / rate)


def _add(result: Estimate, source: Source, name: str) -> None:
    if source.format == "python-docs":
        result.documents += _PYTHON_DOCS[0]
        result.characters += _PYTHON_DOCS[1]
        return
    found = [file for file in files_of(source) if file.problem is None]
    files = [file for file in found if file.format is not None]
    unopened = not_opened([file for file in found if file.distant or file.container], source)
    result.documents += round(unopened.documents)
    result.characters += round(unopened.characters)
    result.file_bytes += unopened.bytes
    result.spool = max(result.spool, unopened.largest)
    formats = {str(file.format) for file in files} | unopened.formats
    modules = {module for format in formats for module in FORMATS[format].modules}
    absent = sorted(module for module in modules if not have(module))
    for module in absent:
        result.problems.append(str(missing(module, f"reading the source '{name}'")))
    for format in sorted({str(file.format) for file in files}):
        of_format = [file for file in files if file.format == format]
        size = sum(file.bytes for file in of_format)
        documents, characters, sampled = _sample(of_format, source) if not absent else (0, 0, 0)
        share = size / sampled if sampled else 0
        rows = _parquet_rows(of_format) if format == "parquet" else 0
        result.documents += rows or (round(documents * share) if sampled else len(of_format))
        result.characters += round(characters * share if sampled else size * FORMATS[format].text_share)
        result.file_bytes += size
    result.largest = max(result.largest, *(most_of_one(file, source) for file in files), 0)


def _sample(files: list[FileOf], source: Source) -> tuple[int, int, int]:
    """(documents, characters, bytes) of a few dozen files of one format, spread evenly over those that are small
    enough; of large files of records the first of them."""
    usable = [file for file in files if file.bytes > 0 and (file.bytes <= _SAMPLED_BYTES or file.format in _CUT)]
    step = max(1, math.ceil(len(usable) / _SAMPLED_FILES))
    documents = characters = size = 0
    for file in usable[::step]:
        found: Iterable[RawDocument | Rejected] = raw_documents(file, source)
        read = file.bytes
        if file.bytes > _SAMPLED_BYTES:
            found, read = _beginning(file, source)
        for raw in found:
            if not isinstance(raw, Rejected):
                documents += 1
                characters += characters_of(raw.text, raw.messages)
        size += read
    return documents, characters, size


def _beginning(file: FileOf, source: Source) -> tuple[list[RawDocument | Rejected], int]:
    """The first records of a large file, and how many bytes they took; none of one that cannot be read."""
    try:
        return _CUT[str(file.format)](file.path, source, _SAMPLED_BYTES)
    except LlmtuneError:
        raise
    except Exception:  # whatever it is, it counts as bytes without text, as it will in the corpus (intake.py)
        return [], file.bytes


def _parquet_rows(files: list[FileOf]) -> int:
    """Rows of Parquet files, from their footers."""
    rows = 0
    for file in files:
        with suppress(OSError, pa.ArrowException):
            rows += pq.read_metadata(file.path).num_rows
    return rows

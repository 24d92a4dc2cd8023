"""One source: files → documents read, cleaned and filtered, set down as Parquet until all sources are in.

A source that is finished is not read again after a kill: its record is written last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.corpus.clean.unicode import cleaned
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.dropped import DropLog
from llmtune.corpus.drops import FORMAT, Drops
from llmtune.corpus.readers import actual_format, reader_of
from llmtune.corpus.readers.decode import head_of, problem
from llmtune.corpus.readers.reader import UNREADABLE, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf, files_of, source_names
from llmtune.corpus.store import Document, write_split
from llmtune.corpus.text import content_hash, printable
from llmtune.errors import LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from llmtune.corpus.judge import Judge


@dataclass
class Intake:
    """What a source gave. files and their bytes, documents (files, records) read, characters read, what was dropped.
    contaminated: {document, evaluation_text, words} for each evaluation text found in a document."""

    name: str
    files: int
    bytes: int
    drops: Drops
    read: int = 0
    characters: int = 0
    kept: int = 0
    contaminated: list[dict[str, str]] = field(default_factory=list)


def take_in(source: Source, name: str, place: str, work: Path, judge: Judge, monitor: Monitor) -> Intake:
    """Read a source into `work/place` (a split of `store`, documents without groups), unless that is already done."""
    record = work / f"{place}.json"
    if record.exists():
        return _from_json(read_json(record), judge.settings.samples)
    shutil.rmtree(work / place, ignore_errors=True)
    files = files_of(source)
    intake = Intake(name, len(files), sum(file.bytes for file in files), Drops(judge.settings.samples))
    work.mkdir(parents=True, exist_ok=True)
    with DropLog(dropped_file(work, place)) as intake.drops.log:
        intake.kept = write_split(work, place, _documents(source, files, intake, judge, monitor))
    intake.drops.log = None
    write_json(record, _to_json(intake))
    return intake


def dropped_file(work: Path, place: str) -> Path:
    """Where the documents that a source lost on the way in are put down."""
    return work / f"{place}-{DROPPED}"


def _documents(
    source: Source, files: list[FileOf], intake: Intake, judge: Judge, monitor: Monitor
) -> Iterator[Document]:
    """The documents of a source that pass, in order; `intake` is told of everything."""
    with monitor.bar(f"reading {intake.name}", len(files), "files") as bar:
        for file in files:
            for raw in raw_documents(file, source):
                monitor.safe_point()
                document = judge(raw, file, source, intake)
                if document is not None:
                    yield document
            bar.advance()


def raw_documents(file: FileOf, source: Source) -> Iterator[RawDocument | Rejected]:
    """What a file holds; a file that can not be read becomes one rejection."""
    try:
        if file.problem is not None:
            yield Rejected("", *file.problem)
        elif file.format is None:
            found = problem(head_of(file.path))
            suffix = file.path.suffix or "no suffix"
            fix = "name the file or its suffix in `include`, or say `format: text`"
            yield Rejected("", found.reason, found.detail) if found else Rejected("", FORMAT, f"{suffix}; {fix}")
        else:
            format = actual_format(file.path, file.format) if source.format == "auto" else file.format
            yield from reader_of(format).read(file.path, source)
    except Unreadable as error:
        yield Rejected("", error.reason, error.detail)
    except OSError as error:
        yield Rejected("", UNREADABLE, error.strerror or type(error).__name__)


def _to_json(intake: Intake) -> dict[str, object]:
    return {**vars(intake), "drops": intake.drops.to_json()}


def _from_json(value: dict[str, object], samples: int) -> Intake:
    return Intake(**{**value, "drops": Drops.from_json(value["drops"], samples)})  # type: ignore[arg-type]


def read_all(sources: Sequence[Source], setting: str, monitor: Monitor) -> Iterator[Document]:
    """The documents of sources that are only compared with, cleaned. Raises LlmtuneError for what cannot be read: it
    could not be kept out either. setting: that names the sources, for the error."""
    for source, name in zip(sources, source_names(sources), strict=True):
        for file in files_of(source):
            for raw in raw_documents(file, source):
                monitor.safe_point()
                id = id_of(name, file, raw.part)
                if isinstance(raw, Rejected):
                    raise LlmtuneError(
                        printable(f"cannot be read, so copies of it cannot be kept out: {raw.reason}: {raw.detail}"),
                        where=printable(f"{setting}: {id}"),
                        fix="repair it, or name only what can be read",
                    )
                text, messages = cleaned(raw)
                yield Document(id, text, messages, name, None, content_hash(text, messages), group="")


def id_of(source_name: str, file: FileOf, part: str) -> str:
    """The name of a document: `source/path/in/it#part`."""
    joint = "/" if file.name and part and not part.startswith("#") else ""
    return f"{source_name}/{file.name}{joint}{part}"

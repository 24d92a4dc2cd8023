"""One source: files → documents read, cleaned and filtered, set down as Parquet until all sources are in.

A source that is finished is not read again after a kill: its record is written last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.clean.source import SourceCleaner
from llmtune.corpus.clean.unicode import cleaned
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.dropped import DropLog
from llmtune.corpus.drops import FORMAT, Drops
from llmtune.corpus.readers import actual_format, reader_of
from llmtune.corpus.readers.decode import head_of, problem
from llmtune.corpus.readers.reader import DAMAGED, UNREADABLE, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf, files_of, id_of, source_names
from llmtune.corpus.store import Document, write_split
from llmtune.corpus.text import content_hash, printable
from llmtune.corpus.unpack import local_files
from llmtune.errors import LlmtuneError
from llmtune.files import read_json, sync_tree, write_json
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from llmtune.corpus.judge import Judge

_SPOOL = "spool"  # what is unpacked or fetched, for as long as it is read


@dataclass
class Intake:
    """What a source gave. files and their bytes, documents (files, records) read, characters read, what was dropped.
    contaminated: {document, evaluation_text, words} for each evaluation text found in a document. changes: what the
    clean-up did."""

    name: str
    files: int
    bytes: int
    drops: Drops
    changes: Changes
    read: int = 0
    characters: int = 0
    kept: int = 0
    contaminated: list[dict[str, str]] = field(default_factory=list)


def take_in(source: Source, name: str, place: str, work: Path, judge: Judge, monitor: Monitor) -> Intake:
    """Read a source into `work/place` (a split of `store`, documents without groups), unless that is already done."""
    record = work / f"{place}.json"
    if record.exists():
        return _from_json(read_json(record), judge.settings.samples)
    for left in (place, _SPOOL):  # by a build that was killed
        shutil.rmtree(work / left, ignore_errors=True)
    files = files_of(source)
    samples = judge.settings.samples
    intake = Intake(name, len(files), sum(file.bytes for file in files), Drops(samples), Changes(samples))
    work.mkdir(parents=True, exist_ok=True)
    with DropLog(dropped_file(work, place)) as intake.drops.log:
        intake.kept = write_split(work, place, _documents(source, files, work / _SPOOL, intake, judge, monitor))
    intake.drops.log = None
    sync_tree(work)  # the record says that what it tells of is whole
    write_json(record, _to_json(intake))
    return intake


def dropped_file(work: Path, place: str) -> Path:
    """Where the documents that a source lost on the way in are put down."""
    return work / f"{place}-{DROPPED}"


def _documents(
    source: Source, files: list[FileOf], spool: Path, intake: Intake, judge: Judge, monitor: Monitor
) -> Iterator[Document]:
    """The documents of a source that pass, in order; `intake` is told of everything."""

    def read() -> Iterator[tuple[FileOf, RawDocument]]:
        with monitor.bar(f"reading {intake.name}", len(files), "files") as bar:
            for file in files:
                for one in local_files(file, source, spool / "files"):
                    for raw in raw_documents(one, source):
                        monitor.safe_point()
                        if isinstance(raw, Rejected):
                            judge(raw, one, source, intake)
                        else:
                            yield one, raw
                bar.advance()

    cleaner = SourceCleaner(intake.name, judge.settings.clean, intake.changes, monitor)
    for file, raw in cleaner.cleaned(read(), spool / "read"):
        document = judge(raw, file, source, intake)
        if document is not None:
            yield document


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
            for raw in reader_of(format).read(file.path, source):
                yield replace(raw, format=format) if isinstance(raw, RawDocument) else raw
    except Unreadable as error:
        yield Rejected("", error.reason, error.detail)
    except OSError as error:
        yield Rejected("", UNREADABLE, error.strerror or type(error).__name__)
    except LlmtuneError:
        raise
    except Exception as error:  # a reader, or the library it parses by, met what nobody thought of: it costs one file
        yield Rejected("", DAMAGED, f"{type(error).__name__}: {error}"[:200])


def _to_json(intake: Intake) -> dict[str, object]:
    return {**vars(intake), "drops": intake.drops.to_json(), "changes": intake.changes.to_json()}


def _from_json(value: dict[str, Any], samples: int) -> Intake:
    kept = {"drops": Drops.from_json(value["drops"], samples), "changes": Changes.from_json(value["changes"], samples)}
    return Intake(**{**value, **kept})


def everything(source: Source, every: int = 1) -> Iterator[tuple[FileOf, RawDocument | Rejected]]:
    """All that a source holds, file by file, or of each so many files the first. What has to be unpacked stands in the
    system's temporary folder."""
    with TemporaryDirectory(prefix="llmtune-") as spool:
        for file in files_of(source)[::every]:
            for one in local_files(file, source, Path(spool)):
                for raw in raw_documents(one, source):
                    yield one, raw


def read_all(sources: Sequence[Source], setting: str, monitor: Monitor) -> Iterator[Document]:
    """The documents of sources that are only compared with, cleaned. Raises LlmtuneError for what cannot be read: it
    could not be kept out either. setting: that names the sources, for the error."""
    for source, name in zip(sources, source_names(sources), strict=True):
        for file, raw in everything(source):
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

"""One source: files → documents read, cleaned and filtered, set down as Parquet until all sources are in.

A source that is finished is not read again after a kill: its record is written last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmtune.corpus.clean import cleaned
from llmtune.corpus.drops import FORMAT, LINK, NO_TEXT, TOO_SHORT, Drops
from llmtune.corpus.readers import reader_of
from llmtune.corpus.readers.decode import head_of, problem
from llmtune.corpus.readers.reader import UNREADABLE, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import FileOf, files_of
from llmtune.corpus.store import Document, write_split
from llmtune.corpus.text import content_hash, plain_text, printable
from llmtune.errors import LlmtuneError
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor


@dataclass
class Intake:
    """What a source gave. files and their bytes, documents (files, records) read, characters read, what was dropped."""

    name: str
    files: int
    bytes: int
    drops: Drops
    read: int = 0
    characters: int = 0
    kept: int = 0


def take_in(source: Source, name: str, place: str, work: Path, settings: CorpusSettings, monitor: Monitor) -> Intake:
    """Read a source into `work/place` (a split of `store`, documents without groups), unless that is already done."""
    record = work / f"{place}.json"
    if record.exists():
        return _from_json(read_json(record), settings.samples)
    shutil.rmtree(work / place, ignore_errors=True)
    files = files_of(source)
    intake = Intake(name, len(files), sum(file.bytes for file in files), Drops(settings.samples))
    work.mkdir(parents=True, exist_ok=True)
    intake.kept = write_split(work, place, _documents(source, files, intake, settings, monitor))
    write_json(record, _to_json(intake))
    return intake


def _documents(
    source: Source, files: list[FileOf], intake: Intake, settings: CorpusSettings, monitor: Monitor
) -> Iterator[Document]:
    """The documents of a source that pass, in order; `intake` is told of everything."""
    with monitor.bar(f"reading {intake.name}", len(files), "files") as bar:
        for file in files:
            for raw in _raw_documents(file, source):
                monitor.safe_point()
                document = _judge(raw, file, source, intake, settings)
                if document is not None:
                    yield document
            bar.advance()


def _raw_documents(file: FileOf, source: Source) -> Iterator[RawDocument | Rejected]:
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
            yield from reader_of(file.format).read(file.path, source)
    except Unreadable as error:
        yield Rejected("", error.reason, error.detail)
    except OSError as error:
        yield Rejected("", UNREADABLE, error.strerror or type(error).__name__)


def _judge(
    raw: RawDocument | Rejected, file: FileOf, source: Source, intake: Intake, settings: CorpusSettings
) -> Document | None:
    """The document to keep, or None with the reason counted. Raises LlmtuneError where the recipe says `fail`."""
    joint = "/" if file.name and raw.part and not raw.part.startswith("#") else ""
    id = f"{intake.name}/{file.name}{joint}{raw.part}"
    intake.read += 1
    if isinstance(raw, Rejected):
        if settings.on_error == "fail" and raw.reason not in (FORMAT, LINK):
            raise LlmtuneError(
                printable(f"{raw.reason}: {raw.detail}"),
                where=printable(f"{file.path}{raw.part}"),
                fix="repair or exclude it, or set `on_error: skip` to go on without it",
            )
        intake.drops.add(id, raw.reason, raw.detail)
        return None
    text, messages = cleaned(raw)
    plain = plain_text(text, messages)
    intake.characters += len(plain)
    if not plain.strip():
        intake.drops.add(id, NO_TEXT, "nothing is left after clean-up")
        return None
    if text is not None and len(text) < settings.min_characters:
        intake.drops.add(id, TOO_SHORT, f"{len(text)} characters, {settings.min_characters} asked for", text)
        return None
    licence = raw.licence or source.licence
    licence = printable(licence) if licence else None
    return Document(id, text, messages, intake.name, licence, content_hash(text, messages), group="")


def _to_json(intake: Intake) -> dict[str, object]:
    return {**vars(intake), "drops": intake.drops.to_json()}


def _from_json(value: dict[str, object], samples: int) -> Intake:
    return Intake(**{**value, "drops": Drops.from_json(value["drops"], samples)})  # type: ignore[arg-type]

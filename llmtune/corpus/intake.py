"""Reading a source: files → documents as they are read, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmtune.corpus.clean.boilerplate import Boilerplate
from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.clean.hyphens import Hyphens
from llmtune.corpus.clean.settings import CleanSettings
from llmtune.corpus.clean.source import FirstLook, SecondLook
from llmtune.corpus.clean.unicode import cleaned
from llmtune.corpus.drops import FORMAT, Drops
from llmtune.corpus.readers import actual_format, reader_of
from llmtune.corpus.readers.decode import head_of, problem
from llmtune.corpus.readers.reader import DAMAGED, UNREADABLE, PieceReader, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf, files_of, id_of, source_names
from llmtune.corpus.store import Document
from llmtune.corpus.text import content_hash
from llmtune.corpus.unpack import local_files
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor
from llmtune.words import visible


@dataclass
class Intake:
    """What a source, or a portion of it, gave. read: documents (files, records); characters: of what could be read;
    kept: documents; drops: what was left out; contaminated: {document, evaluation_text, words} for each evaluation text
    found in a document; changes: what the clean-up did."""

    name: str
    drops: Drops
    changes: Changes
    read: int = 0
    characters: int = 0
    kept: int = 0
    contaminated: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, samples: int) -> Intake:
        """Of a source of which nothing is known yet. samples: how many to show at most."""
        return cls(name, Drops(samples), Changes(samples))

    def merge(self, other: Intake) -> None:
        """Add what comes next in the same source."""
        self.drops.merge(other.drops)
        self.changes.merge(other.changes)
        self.read += other.read
        self.characters += other.characters
        self.kept += other.kept
        self.contaminated += other.contaminated

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the drops' log is left out."""
        return {**vars(self), "drops": self.drops.to_json(), "changes": self.changes.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any], samples: int) -> Intake:
        drops, changes = Drops.from_json(value["drops"], samples), Changes.from_json(value["changes"], samples)
        return cls(**{**value, "drops": drops, "changes": changes})


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
            format = true_format(file, source)
            reader = reader_of(format)
            if file.piece is None:
                records = reader.read(file.path, source)
            else:
                assert isinstance(reader, PieceReader), "it cut the file"
                records = reader.read_piece(file.path, source, file.piece)
            for raw in records:
                yield replace(raw, format=format) if isinstance(raw, RawDocument) else raw
    except Unreadable as error:
        yield Rejected("", error.reason, error.detail)
    except OSError as error:
        yield Rejected("", UNREADABLE, error.strerror or type(error).__name__)
    except LlmtuneError:
        raise
    except Exception as error:  # a reader, or the library it parses by, met what nobody thought of: it costs one file
        yield Rejected("", DAMAGED, f"{type(error).__name__}: {error}"[:200])


def true_format(file: FileOf, source: Source) -> str:
    """The format that a file with one is read in. Raises OSError."""
    assert file.format is not None
    looked_into = source.format == "auto" and file.piece is None
    return actual_format(file.path, file.format) if looked_into else file.format


def everything(source: Source, every: int = 1) -> Iterator[tuple[FileOf, RawDocument | Rejected]]:
    """All that a source holds, file by file, or of each so many files the first. What has to be unpacked stands in the
    system's temporary folder."""
    with TemporaryDirectory(prefix="llmtune-") as spool:
        for file in files_of(source)[::every]:
            for one in local_files(file, source, Path(spool)):
                for raw in raw_documents(one, source):
                    yield one, raw


def read_all(
    sources: Sequence[Source], setting: str, monitor: Monitor, clean: CleanSettings | None = None
) -> Iterator[Document]:
    """The documents of sources that are only compared with, in clean Unicode; clean: by which they are cleaned like
    those of the corpus, as far as that needs no more than the document. Raises LlmtuneError for what cannot be read: it
    could not be kept out either. setting: that names the sources, for the error."""
    look = _look_alone(clean) if clean is not None else None
    for source, name in zip(sources, source_names(sources), strict=True):
        for file, raw in everything(source):
            monitor.safe_point()
            id = id_of(name, file, raw.part)
            if isinstance(raw, Rejected):
                raise LlmtuneError(
                    visible(f"cannot be read, so copies of it cannot be kept out: {raw.reason}: {raw.detail}"),
                    where=visible(f"{setting}: {id}"),
                    fix="repair it, or name only what can be read",
                )
            text, messages = cleaned(look(id, raw) if look is not None else raw)
            yield Document(id, text, messages, name, None, content_hash(text, messages), group="")


def _look_alone(clean: CleanSettings) -> Callable[[str, RawDocument], RawDocument]:
    """The clean-up but for boilerplate and broken words, for which a whole source is asked. Where documents are dropped
    for their personal data it is masked: a copy without it comes in."""
    masked = {kind: "mask" for kind, action in clean.pii.model_dump().items() if action == "drop"}
    pii = clean.pii.model_copy(update=masked)
    clean = clean.model_copy(update={"boilerplate": None, "hyphens": False, "pii": pii})
    changes = Changes(0)
    first, second = FirstLook(clean, changes), SecondLook(clean, changes, Boilerplate([], []), Hyphens({}))

    def look(id: str, raw: RawDocument) -> RawDocument:
        seen = second(id, first(id, raw))
        assert isinstance(seen, RawDocument), "nothing is dropped"
        return seen

    return look

"""Portions: a source's files in runs of a few megabytes (of large files pieces, pieces.py), each of which a worker can
do by itself.

    read_portion     files → texts, each looked at by itself
    settle           of all portions of a source: which lines repeat, which words are broken
    judge_portion    texts → documents: cleaned, judged, sketched to be compared

What each step makes of a portion is a folder that appears whole (shelf.py says where), so that a build which was killed
goes on there. Where portions end depends on the files alone, not on how many workers there are.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from llmtune.corpus.clean.boilerplate import Boilerplate, Lines
from llmtune.corpus.clean.hyphens import Hyphens, count_words
from llmtune.corpus.clean.source import FirstLook, SecondLook, set_down, taken_up
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.dropped import DropLog
from llmtune.corpus.intake import Intake, raw_documents
from llmtune.corpus.judge import Judge, reject
from llmtune.corpus.pieces import content_now
from llmtune.corpus.readers import FORMATS
from llmtune.corpus.readers.reader import UNREADABLE, Rejected
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.shelf import made
from llmtune.corpus.sketch import Sketch
from llmtune.corpus.sources import FileOf, id_of
from llmtune.corpus.store import Document, read_split, write_split
from llmtune.corpus.unpack import local_files
from llmtune.errors import Disturbed
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor

READ, KEPT = "read", "kept"  # splits of the folders of the two steps
_RECORD, _SKETCH, _LINES = "record.json", "sketch.npz", "lines.npz"
# Bytes of files from which a portion ends, and half of which it ends at a file whose name's hash says so. That is where
# portions come to the same files again behind some that were added.
_BYTES = 4_000_000
_FILES = 1000
_ONE_IN = 16
_CHARACTERS = 4_000_000  # of a shard of what stands in between: a worker has them in memory, twice as it writes them


@dataclass(frozen=True)
class Portion:
    """Some files of a source. number: of the source in the recipe; name: of the source; folder: what was read of it;
    contents: what stands for that of each file, if they are on this disk, else empty."""

    source: Source
    number: int
    name: str
    files: tuple[FileOf, ...]
    folder: Path
    contents: tuple[Any, ...] = ()

    @property
    def weight(self) -> int:
        """Bytes of its files, as far as they are known before they are read."""
        return max(1000, sum(file.bytes for file in self.files))


@dataclass(frozen=True)
class Judged:
    """What was made of a portion. number: of the source in the recipe; folder: what is kept of it, as a split KEPT;
    read: what was read of it."""

    number: int
    folder: Path
    read: Path

    @property
    def sketch(self) -> Path:
        """What its documents are compared by."""
        return self.folder / _SKETCH

    @property
    def dropped(self) -> list[Path]:
        """Where what was lost on the way is put down."""
        return [self.read / DROPPED, self.folder / DROPPED]

    def intake(self, name: str, samples: int) -> Intake:
        """What it gave to the source of this name."""
        found = Intake.of(name, samples)
        for folder in (self.read, self.folder):
            found.merge(Intake.from_json(read_json(folder / _RECORD)["intake"], samples))
        return found


@dataclass(frozen=True)
class Facts:
    """What a portion is told of its source. repeated: lines that do, of those in it; kept: those of them that an
    earlier portion keeps; words: how often its broken words stand in the source."""

    repeated: NDArray[np.uint64]
    kept: NDArray[np.uint64]
    words: Mapping[str, int]


def portions_of(files: Sequence[FileOf]) -> list[tuple[FileOf, ...]]:
    """A source's files, in their order, as they go into portions. A piece of a file is one by itself, so that one more
    of a file that has grown moves no other."""
    found: list[tuple[FileOf, ...]] = []
    together: list[FileOf] = []
    size = 0
    for file in files:
        if file.piece is not None and together:
            found.append(tuple(together))
            together, size = [], 0
        together.append(file)
        size += file.bytes
        chosen = xxh3_64_intdigest(file.name.encode()) % _ONE_IN == 0
        full = size >= _BYTES or len(together) >= _FILES or (chosen and size >= _BYTES / 2)
        if full or file.piece is not None:
            found.append(tuple(together))
            together, size = [], 0
    return [*found, tuple(together)] if together else found


# --- first: read ----------------------------------------------------------------------------------------------------
def read_portion(settings: CorpusSettings, portion: Portion, monitor: Monitor) -> None:
    """Read a portion's files, unless that is done. Raises LlmtuneError where the recipe says `on_error: fail`,
    Disturbed where files on this disk changed meanwhile."""

    def make(folder: Path) -> None:
        intake = Intake.of(portion.name, settings.samples)
        look = FirstLook(settings.clean, intake.changes)
        with DropLog(folder / DROPPED) as intake.drops.log:
            documents = _read(settings, portion, look, intake, folder / "unpacked", monitor)
            write_split(folder, READ, documents, characters_per_shard=_CHARACTERS)
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        if look.lines is not None:
            lines = look.lines.counted()
            np.savez(folder / _LINES, keys=lines.keys, counts=lines.counts, documents=lines.documents)
        words = sorted(look.words.wanted) if look.words is not None else []
        write_json(folder / _RECORD, {"intake": intake.to_json(), "words": words})
        if portion.contents and portion.contents != tuple(map(content_now, portion.files)):
            raise Disturbed(
                "documents changed while they were read", where=portion.name, fix="run the same command again"
            )

    made(portion.folder, make)


def _read(
    settings: CorpusSettings, portion: Portion, look: FirstLook, intake: Intake, spool: Path, monitor: Monitor
) -> Iterator[Document]:
    for file, content in zip_longest(portion.files, portion.contents):
        could_be_read = content is not None and not str(content[1]).startswith(UNREADABLE)
        for one in local_files(file, portion.source, spool):
            for raw in raw_documents(one, portion.source):
                monitor.safe_point()
                id = id_of(portion.name, one, raw.part)
                intake.read += 1
                if isinstance(raw, Rejected):
                    if raw.reason == UNREADABLE and one.problem is None and could_be_read:
                        raise Disturbed(
                            f"it could be read a moment ago, and now not: {raw.detail}",
                            where=one.place,
                            fix="run the same command again; what was read before is kept",
                        )
                    reject(settings, raw, id, f"{one.place}{raw.part}", intake)
                else:
                    yield set_down(id, look(id, raw))


# --- then: what the whole source says ---------------------------------------------------------------------------------
def settle(
    portions: Sequence[Portion],
    settings: CorpusSettings,
    count: Callable[[frozenset[str]], Iterator[Counter[str]]],
) -> Iterator[Facts]:
    """What each portion of one source is told of it, in order. count: `count_portion` of each, for some words."""
    share = settings.clean.boilerplate
    repeated = np.empty(0, np.uint64)
    if share is not None:
        lines = Lines.none()
        for portion in portions:
            lines = lines.and_those_of(_lines(portion), share)
        repeated = lines.repeated(share)
        del lines
    broken = [read_json(portion.folder / _RECORD)["words"] for portion in portions]
    wanted = frozenset(word for words in broken for word in words)
    counts: Counter[str] = Counter()
    for found in count(wanted) if wanted else ():
        counts.update(found)
    kept = np.empty(0, np.uint64)
    for portion, words in zip(portions, broken, strict=True):
        told = {word: counts[word] for word in words}
        if not len(repeated):
            yield Facts(repeated, kept, told)
            continue
        own = np.intersect1d(repeated, _lines(portion).keys, assume_unique=True)
        yield Facts(own, np.intersect1d(own, kept, assume_unique=True), told)
        kept = np.union1d(kept, own)


def count_portion(wanted: frozenset[str], portion: Portion, monitor: Monitor) -> Counter[str]:
    """How often the wanted words stand in the texts of a portion."""
    counts = Counter[str]()
    for document in read_split(portion.folder, READ):
        monitor.safe_point()
        counts.update(count_words(document.text or "", wanted))
    return counts


def _lines(portion: Portion) -> Lines:
    with np.load(portion.folder / _LINES, allow_pickle=False) as found:
        return Lines(found["keys"], found["counts"], int(found["documents"]))


# --- last: judge ------------------------------------------------------------------------------------------------------
def judge_portion(judge: Judge, item: tuple[Portion, Facts, Path], monitor: Monitor) -> Judged:
    """Clean and judge what was read of a portion into a folder, unless that is done."""
    portion, facts, place = item
    settings = judge.settings

    def make(folder: Path) -> None:
        intake = Intake.of(portion.name, settings.samples)
        boilerplate = Boilerplate(facts.repeated.tolist(), facts.kept.tolist())
        look = SecondLook(settings.clean, intake.changes, boilerplate, Hyphens(facts.words))
        sketch = Sketch(near=settings.near_duplicates is not None)

        def documents() -> Iterator[Document]:
            for row in read_split(portion.folder, READ):
                monitor.safe_point()
                cleaned = look(row.id, taken_up(row))
                if isinstance(cleaned, Rejected):
                    intake.drops.add(row.id, cleaned.reason, cleaned.detail)
                elif (document := judge(cleaned, row.id, portion.source, intake)) is not None:
                    sketch.add(document, FORMATS[cleaned.format].code)
                    yield document

        with DropLog(folder / DROPPED) as intake.drops.log:
            intake.kept = write_split(folder, KEPT, documents(), characters_per_shard=_CHARACTERS)
        sketch.save(folder / _SKETCH)
        write_json(folder / _RECORD, {"intake": intake.to_json()})

    made(place, make)
    return Judged(portion.number, place, portion.folder)

"""Portions: a source's files in runs of a few megabytes, each of which a worker can do by itself.

    read_portion     files → texts, each looked at by itself
    settle           of all portions of a source: which lines repeat, which words are broken
    judge_portion    texts → documents: cleaned, judged, sketched to be compared

What a portion makes is in its folder of the work folder; `read.json` and `kept.json`, written last, say that it is
done, so that a build which was killed goes on there. Where portions end depends on the files alone, not on how many
workers there are.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from llmtune.corpus.clean.boilerplate import Boilerplate, Lines
from llmtune.corpus.clean.hyphens import Hyphens, count_words
from llmtune.corpus.clean.source import FirstLook, SecondLook, set_down, taken_up
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.dropped import DropLog
from llmtune.corpus.intake import Intake, raw_documents
from llmtune.corpus.judge import Judge
from llmtune.corpus.readers.reader import Rejected
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sketch import Sketch
from llmtune.corpus.sources import FileOf, id_of
from llmtune.corpus.store import Document, read_split, write_split
from llmtune.corpus.unpack import local_files
from llmtune.files import empty_folder, read_json, sync_tree, write_json
from llmtune.monitor import Monitor

READ, KEPT = "read", "kept"  # splits of a portion's folder, and the names of its records
_SKETCH = "sketch.npz"
_LINES = "lines.npz"
# Bytes of files from which a portion ends, and half of which it ends at a file whose name's hash says so. That is where
# portions come to the same files again behind some that were added.
_BYTES = 4_000_000
_FILES = 1000
_ONE_IN = 16


@dataclass(frozen=True)
class Portion:
    """Some files of a source. number: of the source in the recipe; name: of the source; place: its folder in the work
    folder."""

    source: Source
    number: int
    name: str
    place: str
    files: tuple[FileOf, ...]


@dataclass(frozen=True)
class Facts:
    """What a portion is told of its source. repeated: lines that do, of those in it; kept: those of them that an
    earlier portion keeps; words: how often its broken words stand in the source."""

    repeated: NDArray[np.uint64]
    kept: NDArray[np.uint64]
    words: Mapping[str, int]


def portions_of(source: Source, number: int, name: str, files: Sequence[FileOf]) -> list[Portion]:
    """A source's files, in their order, in portions."""
    found: list[Portion] = []
    together: list[FileOf] = []
    size = 0
    for file in files:
        together.append(file)
        size += file.bytes
        chosen = xxh3_64_intdigest(file.name.encode()) % _ONE_IN == 0
        if size >= _BYTES or len(together) >= _FILES or (chosen and size >= _BYTES / 2):
            found.append(Portion(source, number, name, _place(number, len(found)), tuple(together)))
            together, size = [], 0
    if together:
        found.append(Portion(source, number, name, _place(number, len(found)), tuple(together)))
    return found


def _place(source: int, portion: int) -> str:
    return f"source-{source:03d}/{portion:05d}"


# --- first: read ----------------------------------------------------------------------------------------------------
def read_portion(given: tuple[Judge, Path], portion: Portion, monitor: Monitor) -> None:
    """Read a portion's files, unless that is done. given: the judge, and the work folder. Raises LlmtuneError where the
    recipe says `on_error: fail`."""
    judge, work = given
    folder = work / portion.place
    if (folder / f"{READ}.json").exists():
        return
    empty_folder(folder)
    settings = judge.settings
    intake, look = Intake.of(portion.name, settings.samples), None
    look = FirstLook(settings.clean, intake.changes)

    def documents() -> Iterator[Document]:
        for file in portion.files:
            for one in local_files(file, portion.source, folder / "unpacked"):
                for raw in raw_documents(one, portion.source):
                    monitor.safe_point()
                    id = id_of(portion.name, one, raw.part)
                    intake.read += 1
                    if isinstance(raw, Rejected):
                        judge.reject(raw, id, f"{one.place}{raw.part}", intake)
                    else:
                        yield set_down(id, look(id, raw))

    with DropLog(folder / f"{READ}-{DROPPED}") as intake.drops.log:
        write_split(folder, READ, documents())
    intake.drops.log = None
    shutil.rmtree(folder / "unpacked", ignore_errors=True)
    if look.lines is not None:
        lines = look.lines.counted()
        np.savez(folder / _LINES, keys=lines.keys, counts=lines.counts, documents=lines.documents)
    words = sorted(look.words.wanted) if look.words is not None else []
    _set_down(folder, READ, intake, words=words)


# --- then: what the whole source says ---------------------------------------------------------------------------------
def settle(
    portions: Sequence[Portion],
    settings: CorpusSettings,
    work: Path,
    count: Callable[[Sequence[tuple[Portion, list[str]]]], Iterator[Counter[str]]],
) -> Iterator[Facts]:
    """What each portion of one source is told of it, in order. count: `count_portion` of each."""
    share = settings.clean.boilerplate
    repeated = np.empty(0, np.uint64)
    if share is not None:
        lines = Lines.none()
        for portion in portions:
            lines = lines.and_those_of(_lines(work, portion), share)
        repeated = lines.repeated(share)
        del lines
    broken = [read_json(work / portion.place / f"{READ}.json")["words"] for portion in portions]
    wanted = sorted({word for words in broken for word in words})
    counts: Counter[str] = Counter()
    if wanted:
        for found in count([(portion, wanted) for portion in portions]):
            counts.update(found)
    kept = np.empty(0, np.uint64)
    for portion, words in zip(portions, broken, strict=True):
        told = {word: counts[word] for word in words}
        if not len(repeated):
            yield Facts(repeated, kept, told)
            continue
        own = np.intersect1d(repeated, _lines(work, portion).keys, assume_unique=True)
        yield Facts(own, np.intersect1d(own, kept, assume_unique=True), told)
        kept = np.union1d(kept, own)


def count_portion(work: Path, item: tuple[Portion, list[str]], monitor: Monitor) -> Counter[str]:
    """How often words stand in the texts of a portion."""
    portion, words = item
    wanted, counts = frozenset(words), Counter[str]()
    for document in read_split(work / portion.place, READ):
        monitor.safe_point()
        counts.update(count_words(document.text or "", wanted))
    return counts


def _lines(work: Path, portion: Portion) -> Lines:
    with np.load(work / portion.place / _LINES, allow_pickle=False) as found:
        return Lines(found["keys"], found["counts"], int(found["documents"]))


# --- last: judge ------------------------------------------------------------------------------------------------------
def judge_portion(given: tuple[Judge, Path], item: tuple[Portion, Facts], monitor: Monitor) -> None:
    """Clean and judge what was read of a portion, unless that is done; what was read goes."""
    (judge, work), (portion, facts) = given, item
    folder = work / portion.place
    if (folder / f"{KEPT}.json").exists():
        return
    settings = judge.settings
    intake = Intake.of(portion.name, settings.samples)
    boilerplate = Boilerplate(facts.repeated.tolist(), facts.kept.tolist())
    look = SecondLook(settings.clean, intake.changes, boilerplate, Hyphens(facts.words))

    def documents() -> Iterator[Document]:
        for row in read_split(folder, READ):
            monitor.safe_point()
            cleaned = look(row.id, taken_up(row))
            if isinstance(cleaned, Rejected):
                intake.drops.add(row.id, cleaned.reason, cleaned.detail)
            elif (document := judge(cleaned, row.id, portion.source, intake)) is not None:
                yield document

    sketch = Sketch(near=settings.near_duplicates is not None)
    shutil.rmtree(folder / KEPT, ignore_errors=True)  # by a build that was killed
    with DropLog(folder / f"{KEPT}-{DROPPED}") as intake.drops.log:
        intake.kept = write_split(folder, KEPT, sketch.pass_on(documents()))
    intake.drops.log = None
    sketch.save(folder / _SKETCH)
    _set_down(folder, KEPT, intake)
    shutil.rmtree(folder / READ, ignore_errors=True)


def intake_of(portion: Portion, work: Path, samples: int) -> Intake:
    """What a portion gave."""
    folder = work / portion.place
    found = Intake.of(portion.name, samples)
    for name in (READ, KEPT):
        found.merge(Intake.from_json(read_json(folder / f"{name}.json")["intake"], samples))
    return found


def sketch_file(work: Path, portion: Portion) -> Path:
    """What the documents kept of a portion are compared by."""
    return work / portion.place / _SKETCH


def dropped_files(work: Path, portion: Portion) -> list[Path]:
    """Where what a portion lost on the way in is put down."""
    return [work / portion.place / f"{name}-{DROPPED}" for name in (READ, KEPT)]


def _set_down(folder: Path, name: str, intake: Intake, **more: object) -> None:
    sync_tree(folder)  # the record says that what it tells of is whole
    write_json(folder / f"{name}.json", {"intake": intake.to_json(), **more})

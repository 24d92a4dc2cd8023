"""All sources of a corpus, portion by portion, on as many workers as there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmtune.corpus.engine import Engine, engine_of
from llmtune.corpus.intake import Intake
from llmtune.corpus.judge import Judge
from llmtune.corpus.pieces import cut
from llmtune.corpus.portions import (
    Facts,
    Judged,
    Portion,
    count_portion,
    judge_portion,
    portions_of,
    read_portion,
    settle,
)
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shelf import Shelf, discard
from llmtune.corpus.sources import FileOf, files_of, identity_of, kind_of_place
from llmtune.errors import Disturbed
from llmtune.monitor import Monitor

# Settings that have no part in what is made of a portion.
_OF_THE_WHOLE = {
    "sources", "near_duplicates", "near_duplicate_action", "repeated_paragraphs", "known", "temperature", "split",
    "engine", "workers", "reuse",
}  # fmt: skip


_NOT_OF_READING = {"path", "storage", "licence", "repeats", "share", "max_characters"}


@dataclass
class Taken:
    """One source, read and judged. files and their bytes; portions: where its documents are; intake: what it gave."""

    files: int
    bytes: int
    portions: list[Judged]
    intake: Intake


def take_in(judge: Judge, names: Sequence[str], shelf: Shelf, way: list[Any], monitor: Monitor) -> list[Taken]:
    """Read and judge the sources that the judge's settings name, onto the shelf. names: of the sources; way:
    `way_of_judging` before the judge was made.

    Raises LlmtuneError when a source is missing, or cannot be read and the recipe says `on_error: fail`; Disturbed when
    a worker is killed, or files change; Stopped."""
    settings = judge.settings
    found = [files_of(source) for source in settings.sources]
    size = sum(file.bytes for files in found for file in files)
    engine = engine_of(settings.engine, settings.workers, size)
    by_source = [
        _portions(settings, number, name, files, shelf, monitor)
        for number, (name, files) in enumerate(zip(names, found, strict=True))
    ]
    portions = [portion for of_source in by_source for portion in of_source]
    # By bytes, since a file can have a hundred portions and a portion a thousand files.
    unit, one = ("MB", 1e6) if size >= 10e6 else ("kB", 1e3)
    total = sum(portion.weight for portion in portions) / one
    with monitor.bar("reading", total, unit) as bar:
        for portion, _ in zip(portions, engine.map(read_portion, settings, portions, monitor), strict=True):
            bar.advance(portion.weight / one)

    items: list[tuple[Portion, Facts, Path]] = []
    for of_source in by_source:
        count_words = partial(_counted, engine, of_source, monitor)
        for portion, facts in zip(of_source, settle(of_source, settings, count_words), strict=True):
            told = [facts.repeated.tolist(), facts.kept.tolist(), facts.words]
            made_of = [portion.folder.name, portion.source.licence, told, way]
            items.append((portion, facts, shelf.place(made_of)))
    judged: list[list[Judged]] = [[] for _ in names]
    with monitor.bar("cleaning", total, unit) as bar:
        for portion, made in zip(portions, engine.map(judge_portion, judge, items, monitor), strict=True):
            judged[made.number].append(made)
            bar.advance(portion.weight / one)
    if way != way_of_judging(settings):
        for made in (made for done in judged for made in done):
            discard(made.folder)
        raise Disturbed(
            "texts that documents are compared with changed meanwhile", where="corpus", fix="run the same command again"
        )
    taken: list[Taken] = []
    for name, files, done in zip(names, found, judged, strict=True):
        intake = Intake.of(name, settings.samples)
        for made in done:
            intake.merge(made.intake(name, settings.samples))
        taken.append(Taken(len(files), sum(file.bytes for file in files), done, intake))
    return taken


def _counted(
    engine: Engine, portions: Sequence[Portion], monitor: Monitor, wanted: frozenset[str]
) -> Iterator[Counter[str]]:
    return engine.map(count_portion, wanted, portions, monitor)


def _portions(
    settings: CorpusSettings, number: int, name: str, files: Sequence[FileOf], shelf: Shelf, monitor: Monitor
) -> list[Portion]:
    """The portions of one source."""
    source = settings.sources[number]
    found = cut(source, files, monitor)
    way: list[Any] = [
        source.model_dump(mode="json", exclude=_NOT_OF_READING),
        kind_of_place(source, files),
        settings.clean.model_dump(mode="json"),
        [name, settings.samples, settings.on_error],
    ]
    portions = []
    start = 0
    for together in portions_of([file for file, _ in found]):
        contents = [content for _, content in found[start : start + len(together)]]
        start += len(together)
        # Of a store's files, sizes and checksums are all there is to look at.
        checked = tuple(contents) if isinstance(source.path, Path) else ()
        made_of = [way, [[file.name, content] for file, content in zip(together, contents, strict=True)]]
        portions.append(Portion(source, number, name, together, shelf.place(made_of), checked))
    return portions


def way_of_judging(settings: CorpusSettings) -> list[Any]:
    """All that decides what becomes of a text, besides the text and what its source says."""
    compared = settings.decontaminate.sources if settings.decontaminate is not None else []
    relevance = settings.filters.relevance
    learned = [source for sources in relevance.sources.values() for source in sources] if relevance is not None else []
    if relevance is not None and relevance.general == "sources":
        learned += settings.sources
    return [
        settings.model_dump(
            mode="json",
            include=set(CorpusSettings.model_fields) - _OF_THE_WHOLE,
            exclude={"filters": {"perplexity"}},
        ),
        settings.near_duplicates is not None,
        identity_of(compared),
        identity_of(learned),
    ]

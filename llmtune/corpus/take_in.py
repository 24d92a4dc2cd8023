"""All sources of a corpus, portion by portion, on as many workers as there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmtune.corpus.engine import engine_of
from llmtune.corpus.intake import Intake
from llmtune.corpus.judge import Judge
from llmtune.corpus.portions import (
    Facts,
    Portion,
    count_portion,
    intake_of,
    judge_portion,
    portions_of,
    read_portion,
    settle,
)
from llmtune.corpus.sources import files_of
from llmtune.monitor import Monitor


@dataclass
class Taken:
    """One source, read and judged. files and their bytes; portions: where its documents are; intake: what it gave."""

    files: int
    bytes: int
    portions: list[Portion]
    intake: Intake


def take_in(judge: Judge, names: Sequence[str], work: Path, monitor: Monitor) -> list[Taken]:
    """Read and judge the sources that the judge's settings name, into the folder `work`. names: of the sources.

    Raises LlmtuneError when a source is missing, or cannot be read and the recipe says `on_error: fail`; Disturbed when
    a worker is killed; Stopped."""
    settings = judge.settings
    found = [files_of(source) for source in settings.sources]
    size = sum(file.bytes for files in found for file in files)
    engine = engine_of(settings.engine, settings.workers, size)
    by_source = [
        portions_of(source, number, name, files)
        for number, (source, name, files) in enumerate(zip(settings.sources, names, found, strict=True))
    ]
    portions = [portion for of_source in by_source for portion in of_source]
    given = (judge, work)
    with monitor.bar("reading", sum(len(portion.files) for portion in portions), "files") as bar:
        for portion, _ in zip(portions, engine.map(read_portion, given, portions, monitor), strict=True):
            bar.advance(len(portion.files))

    def count(items: Sequence[tuple[Portion, list[str]]]) -> Iterator[Counter[str]]:
        return engine.map(count_portion, work, items, monitor)

    items: list[tuple[Portion, Facts]] = []
    for of_source in by_source:
        items += zip(of_source, settle(of_source, settings, work, count), strict=True)
    with monitor.bar("cleaning", sum(len(portion.files) for portion in portions), "files") as bar:
        for portion, _ in zip(portions, engine.map(judge_portion, given, items, monitor), strict=True):
            bar.advance(len(portion.files))
    taken: list[Taken] = []
    for name, files, of_source in zip(names, found, by_source, strict=True):
        intake = Intake.of(name, settings.samples)
        for portion in of_source:
            intake.merge(intake_of(portion, work, settings.samples))
        taken.append(Taken(len(files), sum(file.bytes for file in files), of_source, intake))
    return taken

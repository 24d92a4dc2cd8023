"""Make a corpus: read every source, drop duplicates, group near-duplicates, split, write, describe.

    take_in (intake.py)     files → documents, judged one by one (judge.py: cleaned, kept or left out), one Parquet
                            spool a source in the work folder
    sort_out (duplicates.py) exact duplicates, near-duplicates, parts of one another, groups
    split_groups (split.py) group → train, valid or test
    mix (mixture.py)        how often a training reads the documents of each source
    _write                  spool → the corpus of `store.py`, `card.json`, `samples.json` (card.py)

Texts pass through one at a time; what is held in memory is a few hundred bytes and a 1 KiB signature a document. The
same sources, settings and seed give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmtune.corpus.card import Kept, card_of, metrics_of, samples_of
from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.contamination import EvaluationTexts
from llmtune.corpus.dropped import CONTAMINATED, DropLog, read_dropped
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.drops import LINK, Drops
from llmtune.corpus.duplicates import Entry, sort_out
from llmtune.corpus.earlier import keep_splits, splits_of
from llmtune.corpus.intake import Intake, dropped_file, read_all, take_in
from llmtune.corpus.judge import Judge
from llmtune.corpus.mixture import Mixed, mix
from llmtune.corpus.readers.reader import PROBLEMS
from llmtune.corpus.settings import CorpusSettings, DecontaminateSettings
from llmtune.corpus.sources import source_names
from llmtune.corpus.split import split_groups
from llmtune.corpus.store import SPLITS, Document, read_split, write_split
from llmtune.corpus.text import document_text
from llmtune.errors import LlmtuneError
from llmtune.files import write_json, write_text
from llmtune.monitor import Monitor


def build_corpus(
    settings: CorpusSettings, output: Path, work: Path, seed: int, monitor: Monitor | None = None
) -> dict[str, Any]:
    """Write the corpus into the folder `output`; returns its metrics. `work` keeps what was read, so that a build that
    was stopped or killed need not read a finished source again (with the same settings and files).

    Raises LlmtuneError when a source is missing, when nothing is left after filtering, and, with `on_error: fail`, at
    the first file or record that can not be read; MissingExtra; Stopped."""
    monitor = monitor or Monitor()
    names = source_names(settings.sources)
    judge = Judge(settings, _evaluation_texts(settings.decontaminate, monitor))
    intakes = [
        take_in(source, name, _place(number), work, judge, monitor)
        for number, (source, name) in enumerate(zip(settings.sources, names, strict=True))
    ]
    drops, changes = Drops(settings.samples), Changes(settings.samples)
    for intake in intakes:
        drops.merge(intake.drops)
        changes.merge(intake.changes)
    _tell_problems(drops, monitor)
    if not any(intake.kept for intake in intakes):
        raise _nothing_left(drops)

    documents, total = _spooled(intakes, work), sum(intake.kept for intake in intakes)
    entries, found = sort_out(documents, total, settings, monitor, read_all(settings.known_sources, "known", monitor))
    splits = _split(entries, settings, seed, monitor)
    mixture = mix(entries, splits, settings, seed)
    _tell_mixture(mixture, names, monitor)
    output.mkdir(parents=True, exist_ok=True)
    with DropLog(output / DROPPED) as drops.log:
        for number in range(len(intakes)):
            for one in read_dropped(dropped_file(work, _place(number))):
                drops.log.add(one.id, one.reason, one.detail)
        _count_left_out(entries, intakes, drops, work, monitor)
    if all(entry.left_out for entry in entries):
        raise _nothing_left(drops)
    kept = _write(entries, splits, [one.repeats for one in mixture], intakes, work, output, monitor)
    figures = {"clusters": found.clusters, "documents": found.documents, "largest_cluster": found.largest}
    card = card_of(settings, names, intakes, drops, changes, kept, figures)
    card["mixture"] = {name: asdict(one) for name, one in zip(names, mixture, strict=True)}
    read = sum(entry.characters * mixture[entry.source].repeats for entry in kept if entry.split == "train")
    card["splits"]["train"]["characters_read"] = round(read)
    write_json(output / "card.json", card)
    if settings.decontaminate is not None:
        lines = [json.dumps(found, ensure_ascii=False) for intake in intakes for found in intake.contaminated]
        write_text(output / CONTAMINATED, "".join(f"{line}\n" for line in lines))
    write_json(output / "samples.json", samples_of(kept, drops, changes, output, settings.samples, seed))
    return metrics_of(card)


def _evaluation_texts(settings: DecontaminateSettings | None, monitor: Monitor) -> EvaluationTexts | None:
    if settings is None:
        return None
    read = read_all(settings.sources, "decontaminate.against", monitor)
    texts = ((document.id, document_text(document), "#" in document.id) for document in read)
    found = EvaluationTexts(texts, settings.words)
    monitor.note(f"looking for {len(found.ids):,} evaluation texts in the documents")
    return found


def _place(number: int) -> str:
    return f"source-{number:03d}"


def _spooled(intakes: list[Intake], work: Path) -> Iterator[tuple[int, Document]]:
    """(number of the source, document) of all that passed the filters, in the order of the sources."""
    for number, intake in enumerate(intakes):
        if intake.kept:
            for document in read_split(work, _place(number)):
                yield number, document


def _split(entries: list[Entry], settings: CorpusSettings, seed: int, monitor: Monitor) -> dict[str, str]:
    """group → split. Says so when a split that was asked for stays empty."""
    earlier = settings.split.earlier
    placed = keep_splits(entries, splits_of(earlier)) if earlier is not None else {}
    groups: dict[str, int] = {}
    for entry in entries:
        if entry.left_out is None:
            groups[entry.group] = groups.get(entry.group, 0) + entry.characters
    splits = split_groups(groups, settings.split, seed, placed)
    for split, share in (("test", settings.split.test), ("valid", settings.split.valid)):
        if share > 0 and split not in splits.values():
            monitor.note(
                f"the {split} split is empty: {len(groups)} document(s) that are not copies of each other are too few "
                "for train, test and valid"
            )
    return splits


def _count_left_out(entries: list[Entry], intakes: list[Intake], drops: Drops, work: Path, monitor: Monitor) -> None:
    """Put what was left out after reading among the drops, of the corpus and of its source."""
    if not any(entry.left_out for entry in entries):
        return
    for entry, (number, document) in zip(entries, _spooled(intakes, work), strict=True):
        if entry.left_out is None:
            continue
        monitor.safe_point()
        reason, detail = entry.left_out
        drops.add(entry.id, reason, detail, document_text(document))
        intakes[number].drops.add(entry.id, reason, detail)


def _write(
    entries: list[Entry],
    splits: dict[str, str],
    repeats: list[float],
    intakes: list[Intake],
    work: Path,
    output: Path,
    monitor: Monitor,
) -> list[Kept]:
    """Write the splits from the spool; returns what was kept."""

    def of(split: str) -> Iterator[Document]:
        for entry, (_, document) in zip(entries, _spooled(intakes, work), strict=True):
            bar.advance()
            if entry.left_out is None and splits[entry.group] == split:
                monitor.safe_point()
                often = repeats[entry.source] if split == "train" else 1.0
                yield replace(document, group=entry.group, repeats=often)

    with monitor.bar("writing", len(SPLITS) * len(entries), "documents") as bar:
        for split in SPLITS:
            write_split(output, split, of(split))
    return [
        Kept(entry.id, splits[entry.group], entry.source, entry.characters, entry.bytes, entry.licence, entry.group)
        for entry in entries
        if entry.left_out is None
    ]


def _tell_mixture(mixture: list[Mixed], names: list[str], monitor: Monitor) -> None:
    """Say which sources make another share of the text than was asked for."""
    for name, one in zip(names, mixture, strict=True):
        if one.wanted is not None and abs(one.share - one.wanted) > 0.02 * one.wanted + 0.005:
            monitor.note(
                f"source '{name}' makes {100 * one.share:.1f} % of the training text, not {100 * one.wanted:.1f} %: "
                + (f"it is read {one.repeats:.1f} times already" if one.repeats > 1 else "its documents are too large")
            )


def _tell_problems(drops: Drops, monitor: Monitor) -> None:
    """Name what could not be read; the card lists more."""
    for reason in (*PROBLEMS, LINK):
        if count := drops.counts[reason]:
            names = [entry["id"] for entry in drops.named[reason][:5]]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            monitor.note(f"skipped, {reason}: {', '.join(names)}{more}")


def _nothing_left(drops: Drops) -> LlmtuneError:
    """The corpus is empty: say what went where, with one example of each reason."""
    examples = "; ".join(f"{reason}: {named[0]['id']} ({named[0]['detail']})" for reason, named in drops.named.items())
    return LlmtuneError(
        f"the corpus is empty after filtering: {drops.sentence() or 'the sources hold no documents'}",
        where="corpus",
        fix=f"loosen the filters (min_characters) or look at the sources; {examples}" if examples else None,
    )

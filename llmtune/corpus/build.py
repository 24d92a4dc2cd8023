"""Make a corpus: read every source, drop duplicates, group near-duplicates, split, write, describe.

    take_in (take_in.py)     files → documents, portion by portion (portions.py): read, cleaned, kept or left out
                             (judge.py), set down in the work folder, with what they are compared by (sketch.py)
    sort_out (duplicates.py) exact duplicates, near-duplicates, parts of one another, groups
    take_out (repeated.py)   what earlier documents have already, if asked for; then sort_out again
    split_groups (split.py)  group → train, valid or test
    mix (mixture.py)         how often a training reads the documents of each source
    _write                   work folder → the corpus of `store.py`; then `card.json`, `samples.json` (card.py)

Portions are worked on side by side (engine.py). What is held in memory of a document is 2.3 KB at most, its
signature of 1 KiB among them. The same sources, settings and seed give the same bytes, with any number of workers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmtune.corpus.card import Kept, card_of, drawn_from, languages_of, metrics_of, samples_of
from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.contamination import EvaluationTexts
from llmtune.corpus.dropped import CONTAMINATED, DropLog, read_dropped
from llmtune.corpus.dropped import NAME as DROPPED
from llmtune.corpus.drops import LINK, Drops
from llmtune.corpus.duplicates import Clusters, Entry, Shortened, group_alone, known_of, sort_out
from llmtune.corpus.earlier import Earlier, Placed, keep_splits, splits_of
from llmtune.corpus.intake import read_all
from llmtune.corpus.judge import Judge
from llmtune.corpus.mixture import Mixed, mix
from llmtune.corpus.perplexity import drop_outside
from llmtune.corpus.portions import KEPT, Judged
from llmtune.corpus.readers.reader import PROBLEMS
from llmtune.corpus.repeated import shortened, take_out
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.shelf import shelf_for
from llmtune.corpus.sketch import sizes_of
from llmtune.corpus.sources import source_names
from llmtune.corpus.split import split_groups
from llmtune.corpus.store import SPLITS, SplitWriter, documents_of, named, table_of, tables_of, with_columns
from llmtune.corpus.take_in import Taken, take_in, way_of_judging
from llmtune.corpus.text import document_text
from llmtune.errors import LlmtuneError
from llmtune.files import write_json, write_text
from llmtune.monitor import Monitor


def build_corpus(
    settings: CorpusSettings,
    output: Path,
    work: Path,
    seed: int,
    monitor: Monitor | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write the corpus into the folder `output`; returns its metrics. `work` keeps what was read, so that a build that
    was stopped or killed goes on there; `cache`, if there is one, keeps it for later builds too, unless the settings
    say `reuse: false`.

    Raises LlmtuneError when a source is missing, when nothing is left after filtering, and, with `on_error: fail`, at
    the first file or record that can not be read; MissingExtra; Stopped."""
    monitor = monitor or Monitor()
    names = source_names(settings.sources)
    shelf = shelf_for(work, cache if settings.reuse else None)
    way = way_of_judging(settings)  # before what is compared with is read
    judge = Judge(settings, _evaluation_texts(settings, monitor))
    taken = take_in(judge, names, shelf, way, monitor)
    drops, changes = Drops(settings.samples), Changes(settings.samples)
    for one in taken:
        drops.merge(one.intake.drops)
        changes.merge(one.intake.changes)
    _tell_problems(drops, monitor)
    if not any(one.intake.kept for one in taken):
        raise _nothing_left(drops)

    portions = [portion for one in taken for portion in one.portions]
    entries = [entry for portion in portions for entry in _entries(portion)]
    _check_parts(entries, settings, names)
    sketches = [portion.sketch for portion in portions]
    if settings.filters.perplexity is not None:
        drop_outside(entries, portions, settings.filters.perplexity, shelf.folder, monitor)
    shelf.tidy()
    earlier = splits_of(settings.split.earlier) if settings.split.earlier is not None else Earlier()

    elsewhere = read_all(settings.known_sources, "known", monitor, settings.clean)
    known = known_of(elsewhere, settings.near_duplicates is not None, monitor)

    def sort(shortened: Shortened | None = None) -> Clusters:
        return sort_out(entries, sketches, settings, monitor, known, Placed(earlier, entries).is_old, shortened)

    found = sort()
    if settings.repeated_paragraphs is not None:
        # What goes by the splits goes first, so that no paragraph goes with it. What is left of two can be the same.
        placed = Placed(earlier, entries)
        keep_splits(entries, placed, settled=False)
        sort(take_out(entries, taken, settings, changes, monitor, placed.is_old))
    splits = _split(entries, settings, seed, Placed(earlier, entries), monitor)
    mixture = mix(entries, splits, settings, seed)
    _tell_mixture(mixture, names, monitor)
    output.mkdir(parents=True, exist_ok=True)
    if all(entry.left_out for entry in entries):
        raise _nothing_left(_all_drops(entries, drops))
    with DropLog(output / DROPPED) as drops.log:
        # Step by step of a whole source: in the same order wherever its portions end.
        steps = [step for one in taken for step in zip(*(portion.dropped for portion in one.portions), strict=True)]
        for lost in (lost for step in steps for file in step for lost in read_dropped(file)):
            drops.log.add(lost.id, lost.reason, lost.detail)
        repeats = [one.repeats for one in mixture]
        kept = _write(entries, splits, repeats, taken, settings.repeated_paragraphs, drops, output, monitor)
    figures = {"clusters": found.clusters, "documents": found.documents, "largest_cluster": found.largest}
    drawn = drawn_from(kept, output, settings.samples, seed)
    card = card_of(settings, taken, drops, changes, kept, figures, languages_of(drawn))
    card["mixture"] = {name: asdict(one) for name, one in zip(names, mixture, strict=True)}
    read = sum(entry.characters * mixture[entry.source].repeats for entry in kept if entry.split == "train")
    card["splits"]["train"]["characters_read"] = round(read)
    write_json(output / "card.json", card)
    if settings.decontaminate is not None:
        lines = [json.dumps(found, ensure_ascii=False) for one in taken for found in one.intake.contaminated]
        write_text(output / CONTAMINATED, "".join(f"{line}\n" for line in lines))
    write_json(output / "samples.json", samples_of(drawn[: settings.samples], drops, changes))
    return metrics_of(card)


def _evaluation_texts(settings: CorpusSettings, monitor: Monitor) -> EvaluationTexts | None:
    if (wanted := settings.decontaminate) is None:
        return None
    read = read_all(wanted.sources, "decontaminate.against", monitor, settings.clean)
    texts = ((document.id, document_text(document), "#" in document.id) for document in read)
    found = EvaluationTexts(texts, wanted.words)
    monitor.note(f"looking for {len(found.ids):,} evaluation texts in the documents")
    return found


def _entries(portion: Judged) -> Iterator[Entry]:
    """An entry for each document that is kept of a portion, without its text."""
    sizes = sizes_of(portion.sketch)
    for (id, sha256, licence, group), (characters, size) in zip(named(portion.folder, KEPT), sizes, strict=True):
        yield Entry(id, sha256, portion.number, characters, size, licence, group or group_alone(sha256))


def _check_parts(entries: list[Entry], settings: CorpusSettings, names: list[str]) -> None:
    """Raises LlmtuneError where no record of a source says what it is a part of: a misspelt column would be a leak."""
    grouped = {entry.source for entry in entries if entry.group != group_alone(entry.sha256)}
    for number in sorted({entry.source for entry in entries} - grouped):
        if (column := settings.sources[number].columns.document) is not None:
            raise LlmtuneError(
                f"no record has anything in the column '{column}', which is to say what it is a part of",
                where=f"source '{names[number]}'",
                fix="look at the columns of its records, and mend or leave out `columns: {document: …}`",
            )


def _split(
    entries: list[Entry], settings: CorpusSettings, seed: int, placed: Placed, monitor: Monitor
) -> dict[str, str]:
    """group → split. Says so when a split that was asked for stays empty."""
    kept = keep_splits(entries, placed)
    groups: dict[str, Counter[int]] = defaultdict(Counter)
    for entry in entries:
        if entry.left_out is None:
            groups[entry.group][entry.source] += entry.characters
    splits = split_groups(groups, settings.split, seed, kept)
    for split, share in (("test", settings.split.test), ("valid", settings.split.valid)):
        if share > 0 and split not in splits.values():
            monitor.note(
                f"the {split} split is empty: {len(groups)} document(s) that are not copies of each other are too few "
                "for train, test and valid"
            )
    return splits


def _write(
    entries: list[Entry],
    splits: dict[str, str],
    repeats: list[float],
    taken: list[Taken],
    words: int | None,
    drops: Drops,
    output: Path,
    monitor: Monitor,
) -> list[Kept]:
    """Write the splits from the work folder; returns what was kept. What was left out after reading goes among the
    drops, of the corpus and of its source. words: of the paragraphs that are not repeated."""
    kept: list[Kept] = []
    left = iter(entries)
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(output, split)) for split in SPLITS}
        bar = stack.enter_context(monitor.bar("writing", len(entries), "documents"))
        for one in taken:
            for table in (table for portion in one.portions for table in tables_of(portion.folder, KEPT)):
                monitor.safe_point()
                mine = list(islice(left, len(table)))
                for row, entry in enumerate(mine):
                    if entry.left_out is not None:
                        reason, detail = entry.left_out
                        drops.add(entry.id, reason, detail, _beginning(table, row) if drops.shows(reason) else "")
                        one.intake.drops.add(entry.id, reason, detail)
                for split in SPLITS:
                    chosen = [
                        row for row, entry in enumerate(mine) if entry.left_out is None and splits[entry.group] == split
                    ]
                    if chosen:
                        of_split = [mine[row] for row in chosen]
                        often = [repeats[entry.source] if split == "train" else 1.0 for entry in of_split]
                        placed = with_columns(
                            table.take(chosen), group=[entry.group for entry in of_split], repeats=often
                        )
                        if words is not None and any(entry.repeated is not None for entry in of_split):
                            pairs = zip(documents_of(placed), of_split, strict=True)
                            placed = table_of(shortened(document, entry, words) for document, entry in pairs)
                        writers[split].add(placed, np.array([entry.characters for entry in of_split], np.int64))
                kept += [
                    Kept(
                        entry.id, splits[entry.group], entry.source, entry.characters, entry.bytes, entry.licence,
                        entry.group,
                    )
                    for entry in mine
                    if entry.left_out is None
                ]  # fmt: skip
                bar.advance(len(table))
    return kept


def _beginning(table: pa.Table, row: int) -> str:
    """The first characters of a document, to be shown."""
    (found,) = documents_of(table.slice(row, 1))
    return document_text(found)


def _all_drops(entries: list[Entry], drops: Drops) -> Drops:
    """With what was left out after reading, without their texts."""
    for entry in entries:
        if entry.left_out is not None:
            drops.add(entry.id, *entry.left_out)
    return drops


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

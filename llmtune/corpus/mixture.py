"""How much of each source a training reads: shares, temperature and budgets, by characters of the train split.

A source's weight is what it holds after its budget, times its `repeats`. With a temperature T the weights become
w^(1/T) (Arivazhagan et al. 2019, arXiv:1907.05019, section 4.2): larger T, more alike. Sources with a `share` get that
part of the whole, the others the rest, in the proportion of their weights. What is wanted less than once is a choice of
the source's documents; what is wanted more often is read again, most of all MOST_REPEATS times: repeating text up to
four times is nearly as good as new text (Muennighoff et al. 2023, arXiv:2305.16264).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from llmtune.corpus.drops import BUDGET
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.store import SPLITS

MOST_REPEATS = 4.0


@dataclass(frozen=True)
class Mixed:
    """Of one source: how often a training reads each of its documents in an epoch, at least once; share: its part of
    the characters read; wanted: the share that was asked for, if any."""

    repeats: float
    share: float
    wanted: float | None = None


def characters_read(sizes: Sequence[int], settings: CorpusSettings) -> int:
    """Characters that an epoch of training reads of sources with so many, for a plan."""
    most = [min(size, source.max_characters or size) for size, source in zip(sizes, settings.sources, strict=True)]
    return round(sum(map(mul, most, _times(most, settings.sources, settings.temperature))))


def mix(entries: Sequence[Entry], splits: Mapping[str, str], settings: CorpusSettings, seed: int) -> list[Mixed]:
    """The mixture of the train split, a Mixed a source. Documents that are not read are marked in `entries`."""
    by_split: dict[str, list[list[Entry]]] = {split: [[] for _ in settings.sources] for split in SPLITS}
    for entry in entries:
        if entry.left_out is None:
            by_split[splits[entry.group]][entry.source].append(entry)
    train = by_split["train"]
    whole = [_size(of_source) for of_source in train]
    budgets = [source.max_characters or size for source, size in zip(settings.sources, whole, strict=True)]
    times = _times([min(pair) for pair in zip(whole, budgets, strict=True)], settings.sources, settings.temperature)
    for number, (size, budget, often) in enumerate(zip(whole, budgets, times, strict=True)):
        part = min(1.0, often) * min(size, budget) / size if size else 1.0
        if part == 1:
            continue
        # Of its held-out texts the same part, or a model would be judged by general text alone.
        for of_split in by_split.values():
            _keep(of_split[number], part * _size(of_split[number]), f"{100 * part:.0f} % of it", seed)
    read = [max(1.0, often) * _size(of_source) for of_source, often in zip(train, times, strict=True)]
    together = sum(read) or 1.0
    return [
        Mixed(max(1.0, often), one / together, source.share)
        for often, one, source in zip(times, read, settings.sources, strict=True)
    ]


def _times(sizes: list[int], sources: Sequence[Source], temperature: float | None) -> list[float]:
    """How often each source is read in an epoch."""
    weights = [size * source.repeats for size, source in zip(sizes, sources, strict=True)]
    free = [number for number, source in enumerate(sources) if source.share is None]
    if temperature is not None and (together := sum(weights[number] for number in free)):
        raised = {number: weights[number] ** (1 / temperature) for number in free}
        for number in free:
            weights[number] = together * raised[number] / sum(raised.values())
    shared = sum(source.share or 0.0 for source, size in zip(sources, sizes, strict=True) if size)
    rest = sum(weights[number] for number in free)
    whole = rest / (1 - shared) if rest else sum(weights)
    for number, source in enumerate(sources):
        if source.share is not None:
            weights[number] = whole * source.share / (1.0 if rest else shared or 1.0)
    return [
        min(weight / size, max(MOST_REPEATS, source.repeats)) if size else 1.0
        for weight, size, source in zip(weights, sizes, sources, strict=True)
    ]


def _keep(entries: list[Entry], characters: float, budget: str, seed: int) -> None:
    """Mark the documents beyond so many characters: in the order of a hash, so that the choice is spread over the
    source and most of it stays when documents are added. Where none is small enough, the smallest stays."""
    left, kept = characters, 0
    order = sorted(entries, key=lambda one: _rank(seed, one.sha256))
    for entry in order:
        if entry.characters > left:
            entry.left_out = (BUDGET, budget)
        else:
            left -= entry.characters
            kept += 1
    if order and not kept:
        min(order, key=lambda one: one.characters).left_out = None


def _size(entries: list[Entry]) -> int:
    return sum(entry.characters for entry in entries if entry.left_out is None)


def _rank(seed: int, sha256: str) -> bytes:
    return hashlib.sha256(f"mixture\0{seed}\0{sha256}".encode()).digest()

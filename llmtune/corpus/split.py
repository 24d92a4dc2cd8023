"""The split into train, valid and test: by characters, in whole groups, of each source its share."""

from __future__ import annotations

import hashlib
import statistics
from collections import defaultdict
from collections.abc import Mapping

from llmtune.corpus.settings import SplitSettings

# A group larger than this share of what a split may hold goes to train, so that one document is never the whole test.
_LARGEST_SHARE = 0.5
_OVERSHOOT = 1.1
# Where a few documents hold nearly all the text, a split stays below its share of characters rather than take more than
# this many times its share of the groups: else all the small documents would be held out.
_MOST_GROUPS = 2


def split_groups(
    groups: Mapping[str, Mapping[int, int]],
    settings: SplitSettings,
    seed: int,
    placed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """group → split, for `groups`: group → source → characters. Depends on nothing but the arguments, not on their
    order.

    Groups are taken in their order (`_order`) until the split has its share of all characters: a document keeps its
    place in that order, nearly, when others come or go. Every split that is asked for gets at least one group if there
    are enough: train first, then test, then valid.

    placed: groups whose split is settled; the others fill what the splits lack"""
    sizes = {group: sum(of_group.values()) for group, of_group in groups.items()}
    order = _order(groups, sizes, seed)
    total = sum(sizes.values())
    found = {group: split for group, split in (placed or {}).items() if group in groups}
    for split, share in (("test", settings.test), ("valid", settings.valid)):
        left = [group for group in order if group not in found]
        own = [group for group in found if found[group] == split]
        budget = min(share * total, settings.max_characters) - sum(sizes[group] for group in own)
        if share == 0 or len(left) < 2 or (own and budget <= 0):
            continue
        to_come = 2 if split == "test" and settings.valid > 0 and len(left) > 2 else 1
        most = min(max(1, round(_MOST_GROUPS * share * len(order)) - len(own)), len(left) - to_come)
        taken = _take(left, sizes, budget, most) or ([] if own else [_small(left, sizes)])
        found.update(dict.fromkeys(taken, split))
    return {group: found.get(group, "train") for group in order}


def _order(groups: Mapping[str, Mapping[int, int]], sizes: Mapping[str, int], seed: int) -> list[str]:
    """The groups by the share of their source's characters that comes before their middle, in the order of a hash: what
    stands in front of any place is of each source the same share (stratified by source). A group counts for the source
    with most of its characters."""
    by_source: dict[int, list[str]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: (_rank(seed, group), group)):
        by_source[max(groups[group], key=lambda source: (groups[group][source], -source))].append(group)
    places: dict[str, float] = {}
    for of_source in by_source.values():
        whole, before = sum(sizes[group] for group in of_source), 0
        for group in of_source:
            places[group] = (2 * before + sizes[group]) / (2 * whole or 1)
            before += sizes[group]
    return sorted(groups, key=lambda group: (places[group], _rank(seed, group), group))


def _take(left: list[str], sizes: Mapping[str, int], budget: float, most: int) -> list[str]:
    """The first groups that fill the budget, at most `most`; none where all are too large."""
    taken: list[str] = []
    characters = 0
    for group in left:
        if characters >= budget or len(taken) == most:
            break
        size = sizes[group]
        if size <= _LARGEST_SHARE * budget and characters + size <= _OVERSHOOT * budget:
            taken.append(group)
            characters += size
    return taken


def _small(left: list[str], sizes: Mapping[str, int]) -> str:
    """The first of the smaller half."""
    median = statistics.median_low([sizes[group] for group in left])
    return next(group for group in left if sizes[group] <= median)


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{group}".encode()).digest()

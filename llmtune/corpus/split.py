"""The split into train, valid and test: by characters, in whole groups, from a hash of seed and group."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping

from llmtune.corpus.settings import SplitSettings

# A group larger than this share of what a split may hold goes to train, so that one document is never the whole test.
_LARGEST_SHARE = 0.5
_OVERSHOOT = 1.1
# Where a few documents hold nearly all the text, a split stays below its share of characters rather than take more than
# this many times its share of the groups: else all the small documents would be held out.
_MOST_GROUPS = 2


def split_groups(
    groups: Mapping[str, int], settings: SplitSettings, seed: int, placed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """group → split, for `groups`: group → characters. Depends on nothing but the arguments, not on their order.

    Groups are taken in the order of their hash until the split has its share of all characters: a document keeps its
    place in that order when others come or go. Every split that is asked for gets at least one group if there are
    enough: train first, then test, then valid.

    placed: groups whose split is settled; the others fill what the splits lack"""
    order = sorted(groups, key=lambda group: (_rank(seed, group), group))
    total = sum(groups.values())
    found = {group: split for group, split in (placed or {}).items() if group in groups}
    for split, share in (("test", settings.test), ("valid", settings.valid)):
        left = [group for group in order if group not in found]
        own = [group for group in found if found[group] == split]
        budget = min(share * total, settings.max_characters) - sum(groups[group] for group in own)
        if share == 0 or len(left) < 2 or (own and budget <= 0):
            continue
        to_come = 2 if split == "test" and settings.valid > 0 and len(left) > 2 else 1
        most = min(max(1, round(_MOST_GROUPS * share * len(order)) - len(own)), len(left) - to_come)
        taken = _take(left, groups, budget, most) or ([] if own else [_small(left, groups)])
        found.update(dict.fromkeys(taken, split))
    return {group: found.get(group, "train") for group in order}


def _take(left: list[str], groups: Mapping[str, int], budget: float, most: int) -> list[str]:
    """The first groups that fill the budget, at most `most`; none where all are too large."""
    taken: list[str] = []
    characters = 0
    for group in left:
        if characters >= budget or len(taken) == most:
            break
        size = groups[group]
        if size <= _LARGEST_SHARE * budget and characters + size <= _OVERSHOOT * budget:
            taken.append(group)
            characters += size
    return taken


def _small(left: list[str], groups: Mapping[str, int]) -> str:
    """The first of the smaller half."""
    median = statistics.median_low([groups[group] for group in left])
    return next(group for group in left if groups[group] <= median)


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{group}".encode()).digest()

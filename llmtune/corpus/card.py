"""`card.json`, `samples.json` and the metrics of a corpus. They hold no path, no time and no text but the samples."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.corpus.clean.changes import Changes
from llmtune.corpus.drops import EXACT, EXCERPT, KNOWN, NEAR, Drops
from llmtune.corpus.filters.features import View
from llmtune.corpus.filters.language import language_of
from llmtune.corpus.near import group_threshold
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.store import SCHEMA, SPLITS, chosen
from llmtune.corpus.take_in import Taken
from llmtune.corpus.text import document_text
from llmtune.extras import have

_TELLING = 100  # documents that the languages are told by


@dataclass(frozen=True, slots=True)
class Kept:
    """A document of the corpus, without its text. source: number in the recipe; sizes of its plain text."""

    id: str
    split: str
    source: int
    characters: int
    bytes: int
    licence: str | None
    group: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is kept of a document that was drawn. text: its beginning; language: ISO 639, "no prose" where there is too
    little to tell, None where it was not looked at."""

    entry: Kept
    text: str
    language: str | None


def card_of(
    settings: CorpusSettings,
    taken: list[Taken],
    drops: Drops,
    changes: Changes,
    kept: list[Kept],
    found: dict[str, int],
    languages: dict[str, int],
) -> dict[str, Any]:
    """The corpus's description; see docs/corpus.md for the fields."""
    by_source = [[entry for entry in kept if entry.source == number] for number in range(len(taken))]
    threshold = settings.near_duplicates
    return {
        "sources": [
            {
                "name": one.intake.name,
                "format": source.format,
                "licence": _licences(mine),
                "files": one.files,
                "file_bytes": one.bytes,
                "read": {"documents": one.intake.read, "characters": one.intake.characters},
                "cleaned": one.intake.changes.figures(),
                "dropped": dict(sorted(one.intake.drops.counts.items())),
                "kept": _sizes(mine),
            }
            for source, one, mine in zip(settings.sources, taken, by_source, strict=True)
        ],
        "cleaned": changes.figures(),
        "dropped": dict(sorted(drops.counts.items())),
        "dropped_named": dict(sorted(drops.named.items())),
        "duplicates": {
            "exact": drops.counts[EXACT],
            "near_threshold": threshold,
            "group_threshold": None if threshold is None else round(group_threshold(threshold), 4),
            "near_action": settings.near_duplicate_action,
            "near_dropped": drops.counts[NEAR],
            "known": drops.counts[KNOWN],
            "near_clusters": found,
        },
        "contamination": _contamination(settings, taken),
        "splits": {split: _sizes([entry for entry in kept if entry.split == split]) for split in SPLITS},
        "total": _sizes(kept),
        "licences": _licences(kept),
        "languages": languages,
        "schema": {field.name: str(field.type) for field in SCHEMA},
    }


def _contamination(settings: CorpusSettings, taken: list[Taken]) -> dict[str, Any] | None:
    """documents in which evaluation texts were found, and how many different ones; one by one in contaminated.jsonl."""
    if settings.decontaminate is None:
        return None
    found = [found for one in taken for found in one.intake.contaminated]
    return {
        "action": settings.decontaminate.action,
        "documents": len({one["document"] for one in found}),
        "evaluation_texts": len({one["evaluation_text"] for one in found}),
    }


def metrics_of(card: dict[str, Any]) -> dict[str, Any]:
    """The figures of the card that the run's record and the report show."""
    return {
        **card["total"],
        "languages": card["languages"],
        "splits": card["splits"],
        "read": {
            "documents": sum(source["read"]["documents"] for source in card["sources"]),
            "characters": sum(source["read"]["characters"] for source in card["sources"]),
        },
        "cleaned": card["cleaned"],
        "dropped": card["dropped"],
        "exact_duplicates": card["duplicates"]["exact"],
        "near_duplicates": card["duplicates"]["near_dropped"],
        "near_duplicate_clusters": card["duplicates"]["near_clusters"]["clusters"],
    }


def drawn_from(kept: list[Kept], corpus: Path, samples: int, seed: int) -> list[Drawn]:
    """Documents drawn by hash, so that they are spread over the corpus: the first `samples` to be shown, and the first
    hundred to tell the languages by, where py3langid is installed. No more than one is held whole."""
    order = sorted(kept, key=lambda entry: hashlib.sha256(f"{seed}\0{entry.id}".encode()).digest())
    telling = {entry.id for entry in order[:_TELLING]} if have("py3langid") else set()
    order = order[: max(samples, len(telling))]
    texts: dict[str, str] = {}
    languages: dict[str, str] = {}
    for split in sorted({entry.split for entry in order}):
        for document in chosen(corpus, split, {entry.id for entry in order if entry.split == split}):
            text = document_text(document)
            texts[document.id] = text[:EXCERPT]
            if document.id in telling:
                languages[document.id] = language_of(View(document.id, "", "", text)) or "no prose"
    return [Drawn(entry, texts[entry.id], languages.get(entry.id)) for entry in order]


def samples_of(drawn: list[Drawn], drops: Drops, changes: Changes) -> dict[str, Any]:
    """A few documents, a few dropped ones, and a few before and after the clean-up."""
    in_order = sorted(drawn, key=lambda one: SPLITS.index(one.entry.split))
    shown = [
        {"id": one.entry.id, "split": one.entry.split, "characters": one.entry.characters, "text": one.text}
        for one in in_order
    ]
    return {"kept": shown, "dropped": drops.shown(), "cleaned": changes.shown()}


def languages_of(drawn: list[Drawn]) -> dict[str, int]:
    """language → documents among those that were looked at for it."""
    found = Counter(one.language for one in drawn if one.language is not None)
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _sizes(entries: list[Kept]) -> dict[str, int]:
    return {
        "documents": len(entries),
        "groups": len({entry.group for entry in entries}),
        "characters": sum(entry.characters for entry in entries),
        "bytes": sum(entry.bytes for entry in entries),
    }


def _licences(entries: list[Kept]) -> dict[str, int]:
    """licence → documents; "unknown" where none is known."""
    return dict(sorted(Counter(entry.licence or "unknown" for entry in entries).items()))

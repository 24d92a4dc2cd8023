"""What back-translation tells of its work: figures for `card.json`, samples, and its section of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from llmtune.augment.drawn import DrawnByReason, DrawnRows
from llmtune.augment.rewrite import Judged
from llmtune.augment.settings import BackTranslateSettings
from llmtune.corpus.drops import EXCERPT
from llmtune.corpus.store import Document
from llmtune.section import Chart, Section, Table, Texts

FEW = "too few sentences changed"
_BINS = 20  # of chrF


class Tally:
    """Counts as the documents come by. Sentences are counted as often as they stand in the corpus.

    documents, characters, bytes: of the new texts; characters_read: as often as an epoch reads them; licences: theirs,
        None for unknown; left: documents not added
    """

    def __init__(self, settings: BackTranslateSettings, seed: int) -> None:
        self.documents = self.characters = self.bytes = self.left = 0
        self.characters_read = 0.0
        self.sentences = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.similarities: dict[str, list[int]] = {"kept": [0] * _BINS, "dropped": [0] * _BINS}
        self.kept_rows = DrawnRows(settings.samples, seed)
        self._dropped_rows = DrawnByReason(settings.samples, seed)
        self._texts = DrawnRows(settings.samples, seed)

    def add(self, original: Document, new: Document | None, judged: Iterable[Judged]) -> None:
        """One document: what became of its sentences, and the new one, where there is one."""
        for one in judged:
            self._sentence(original.id, one)
        if new is None or new.text is None:
            self.left += 1
            return
        self.documents += 1
        self.characters += len(new.text)
        self.characters_read += len(new.text) * new.repeats
        self.bytes += len(new.text.encode())
        self.licences[original.licence or "unknown"] += 1
        self._texts.offer(new.id, str(len(new.text)), new.text[:EXCERPT])

    def _sentence(self, id: str, one: Judged) -> None:
        verdict = one.verdict
        self.sentences += 1
        if verdict.similarity is not None:
            place = min(int(verdict.similarity * _BINS), _BINS - 1)
            self.similarities["dropped" if verdict.reason else "kept"][place] += 1
        if verdict.reason is None:
            self.kept += 1
            self.kept_rows.offer(one.segment.text, one.pivot, verdict.came_back)
            return
        self.dropped[verdict.reason] += 1
        self._dropped_rows.offer(
            verdict.reason, id, verdict.reason, verdict.detail, one.segment.text, verdict.came_back
        )

    @property
    def dropped_rows(self) -> list[tuple[str, ...]]:
        """(document, reason, detail, original, what came back) of a few, the reasons in turn so that each is seen."""
        return self._dropped_rows.rows

    def samples(self) -> dict[str, Any]:
        """`samples.json`, as the corpus stage writes it: texts kept, sentences dropped."""
        return {
            "kept": [
                {"id": id, "split": "train", "characters": int(characters), "text": text}
                for id, characters, text in self._texts.rows
            ],
            "dropped": [
                {"id": id, "reason": reason, "detail": detail, "text": f"{before}\n→ {after}"[:EXCERPT]}
                for id, reason, detail, before, after in self.dropped_rows
            ],
        }


def card_of(
    before: Mapping[str, Any], settings: BackTranslateSettings, engine: Mapping[str, Any], tally: Tally
) -> dict[str, Any]:
    """The card of the corpus before, with the new texts counted in its sizes and licences and told of under
    `back_translation` (a list: a corpus can go through several languages)."""
    licences = Counter(before["licences"]) + tally.licences
    return {
        **before,
        "splits": before["splits"] | {"train": _larger(before["splits"]["train"], tally)},
        "total": _larger(before["total"], tally),
        "licences": dict(sorted(licences.items())),
        "back_translation": [
            *before.get("back_translation", ()),
            {
                "language": settings.language,
                "pivot": settings.pivot,
                "engine": dict(engine),
                "documents": {"added": tally.documents, FEW: tally.left, "characters": tally.characters},
                "sentences": {
                    "translated": tally.sentences,
                    "kept": tally.kept,
                    "dropped": dict(sorted(tally.dropped.items())),
                },
            },
        ],
    }


def metrics_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the card that the run's record and the report show."""
    made = card["back_translation"][-1]
    sentences = made["sentences"]
    return {
        **card["total"],
        "splits": card["splits"],
        "back_translated_documents": made["documents"]["added"],
        "back_translated_characters": made["documents"]["characters"],
        "sentences": sentences["translated"],
        "sentences_kept": sentences["kept"],
        "sentences_dropped": sentences["dropped"],
    }


def section_of(settings: BackTranslateSettings, tally: Tally) -> Section:
    """What the report shows: why sentences were dropped, how near the others are, and some of each."""
    share = tally.kept / max(tally.sentences, 1)
    ordered = sorted(tally.dropped.items(), key=lambda item: (-item[1], item[0]))
    reasons = [(reason, count, f"{count / tally.sentences:.1%}") for reason, count in ordered]
    bins = [round((number + 0.5) / _BINS, 3) for number in range(_BINS)]
    texts = [
        Texts(
            "Sentences that were kept",
            (f"original ({settings.language})", f"by way of ({settings.pivot})", "back-translated"),
            tally.kept_rows.rows,
        ),
        Texts(
            "Sentences that were dropped: the text keeps the original",
            ("why", "original", "came back as"),
            [(f"{why}: {detail}" if detail else why, old, new) for _, why, detail, old, new in tally.dropped_rows],
        ),
    ]
    return Section(
        summary=f"{tally.documents:,} texts were added to the training split, said in other words by way of "
        f"'{settings.pivot}'. {tally.kept:,} of {tally.sentences:,} sentences ({share:.0%}) passed the gate; "
        f"{tally.left:,} texts changed too little to be added.",
        tables=[Table("Sentences dropped", ("reason", "sentences", "share"), reasons)] if reasons else [],
        charts=[
            Chart(
                "How near the sentences came back",
                "lines",
                bins,
                tally.similarities,
                "chrF of the prose to the original",
                "sentences",
            )
        ],
        texts=[one for one in texts if one.rows],
    )


def _larger(sizes: Mapping[str, int], tally: Tally) -> dict[str, int]:
    """Sizes with the new texts, which share the groups of their originals."""
    return {
        "documents": sizes["documents"] + tally.documents,
        "groups": sizes["groups"],
        "characters": sizes["characters"] + tally.characters,
        "characters_read": round(sizes.get("characters_read", sizes["characters"]) + tally.characters_read),
        "bytes": sizes["bytes"] + tally.bytes,
    }

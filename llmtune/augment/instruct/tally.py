"""What `instruct` tells of its work: figures for `card.json`, samples, and its section of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from llmtune.augment.drawn import DrawnByReason, DrawnRows
from llmtune.augment.instruct.gate import ERRORS
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.augment.instruct.sheet import Judged, Sheet
from llmtune.corpus.drops import EXCERPT
from llmtune.corpus.store import SPLITS, Document
from llmtune.corpus.text import document_text
from llmtune.section import Section, Table, Texts

_NAMED = 20  # documents, a reason
_TOLD = 5  # of these in a note


class Tally:
    """Counts as the documents come by.

    pairs: of each split; rules: pairs of each rule; dropped: drafts that are no pairs, by reason; documents: looked at;
    unasked: of these, in another language; errors: the first documents with passages that have no usable
    reply, by reason
    """

    def __init__(self, settings: InstructSettings, seed: int) -> None:
        self.pairs: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.documents = self.unasked = 0
        self.errors: dict[str, list[str]] = {}
        self.licences: Counter[str] = Counter()
        self.sizes = {split: Counter[str]() for split in SPLITS}
        self._groups: dict[str, set[str]] = {split: set() for split in SPLITS}
        self.kept_rows = DrawnByReason(settings.samples, seed)
        self.dropped_rows = DrawnByReason(settings.samples, seed)
        self._texts = DrawnRows(settings.samples, seed)

    def add(self, split: str, sheet: Sheet, made: Iterable[tuple[Judged, Document | None]]) -> None:
        """One document: its drafts, and the pair that each became, if it is one."""
        self.documents += 1
        self.unasked += not sheet.asked
        for judged, pair in made:
            draft = judged.draft
            if pair is None:
                reason = str(judged.reason)
                self.dropped[reason] += 1
                if reason in ERRORS:
                    self._name(reason, sheet.id)
                self.dropped_rows.offer(reason, sheet.id, reason, draft.question, draft.answer or draft.said[:EXCERPT])
                continue
            text = document_text(pair)
            self.pairs[split] += 1
            self.rules[draft.rule] += 1
            self.licences[sheet.licence or "unknown"] += 1
            self._groups[split].add(sheet.group)
            self.sizes[split].update(characters=len(text), bytes=len(text.encode()))
            self.sizes[split]["characters_read"] += round(len(text) * pair.repeats)
            self.kept_rows.offer(draft.rule, draft.rule, draft.question, draft.answer)
            self._texts.offer(pair.id, split, str(len(text)), text[:EXCERPT])

    def _name(self, reason: str, document: str) -> None:
        named = self.errors.setdefault(reason, [])
        if document not in named and len(named) < _NAMED:
            named.append(document)

    def skipped(self) -> list[str]:
        """Sentences that name what `on_error: skip` went on without; the card names more."""
        return [
            f"skipped: {self.dropped[reason]:,} × {reason}, in {', '.join(named[:_TOLD])}"
            + (" and others" if len(named) > _TOLD else "")
            for reason, named in self.errors.items()
        ]

    def groups(self, split: str) -> int:
        """Groups of which a split has pairs."""
        return len(self._groups[split])

    def sentence(self) -> str:
        """`3 × answer too short, 1 × cut in the middle`, most frequent first."""
        ordered = sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count} × {reason}" for reason, count in ordered)

    def samples(self) -> dict[str, Any]:
        """`samples.json`, as the corpus stage writes it."""
        return {
            "kept": [
                {"id": id, "split": split, "characters": int(characters), "text": text}
                for id, split, characters, text in self._texts.rows
            ],
            "dropped": [
                {"id": id, "reason": reason, "detail": "", "text": f"{question}\n→ {answer}"[:EXCERPT]}
                for id, reason, question, answer in self.dropped_rows.rows
            ],
        }


def card_of(before: Mapping[str, Any], settings: InstructSettings, tally: Tally) -> dict[str, Any]:
    """The card of the corpus before, with the pairs counted in its sizes and licences and told of under `instruct`."""
    splits = {split: _sizes(before["splits"][split], split, settings.keep_documents, tally) for split in SPLITS}
    total = {key: sum(sizes.get(key, 0) for sizes in splits.values()) for key in splits["train"]}
    licences = Counter(before["licences"] if settings.keep_documents else {}) + tally.licences
    asked = sum(tally.pairs.values())
    return {
        **before,
        "splits": splits,
        "total": {key: total[key] for key in before["total"]} | {"documents": total["documents"]},
        "licences": dict(sorted(licences.items())),
        "instruct": {
            "pairs": {"total": asked, **{split: tally.pairs[split] for split in SPLITS}},
            "rules": dict(sorted(tally.rules.items())),
            "dropped": dict(sorted(tally.dropped.items())),
            "errors": tally.errors,
            "documents": {"read": tally.documents, "not in English": tally.unasked},
            "keep_documents": settings.keep_documents,
        },
    }


def metrics_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the card that the run's record and the report show."""
    made = card["instruct"]
    return {
        **card["total"],
        "splits": card["splits"],
        "pairs": made["pairs"],
        "pairs_by_rule": made["rules"],
        "pairs_dropped": made["dropped"],
    }


def section_of(tally: Tally) -> Section:
    """What the report shows: how many pairs each rule gave, why others were dropped, and some of each."""
    kept, dropped = sum(tally.pairs.values()), sum(tally.dropped.values())
    reasons = sorted(tally.dropped.items(), key=lambda item: (-item[1], item[0]))
    shares = [(reason, count, f"{count / (kept + dropped):.1%}") for reason, count in reasons]
    held_out = kept - tally.pairs["train"]
    texts = [
        Texts("Pairs", ("rule", "question", "answer"), tally.kept_rows.rows),
        Texts("Not kept", ("why", "question", "answer"), [row[1:] for row in tally.dropped_rows.rows]),
    ]
    return Section(
        summary=f"{kept:,} pairs of question and answer were made from {tally.documents:,} documents, {held_out:,} of "
        f"them from held-out ones, where they stay. {dropped:,} others did not pass; {tally.unasked:,} documents are "
        "not in English and were not asked.",
        tables=[
            Table("Pairs", ("rule", "pairs"), sorted(tally.rules.items())),
            *([Table("Not kept", ("reason", "pairs", "share"), shares)] if shares else []),
        ],
        texts=[one for one in texts if one.rows],
    )


def _sizes(before: Mapping[str, int], split: str, keep: bool, tally: Tally) -> dict[str, int]:
    """Sizes of a split with its pairs, which share the groups of their documents; or of these alone."""
    more = Counter(
        {"documents": tally.pairs[split], "groups": 0 if keep else tally.groups(split)}, **tally.sizes[split]
    )
    sizes = {key: (size if keep else 0) + more[key] for key, size in before.items()}
    if split == "train":
        read = before.get("characters_read", before["characters"]) if keep else 0
        sizes["characters_read"] = read + more["characters_read"]
    return sizes

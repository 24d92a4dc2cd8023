"""What the clean-up did, by kind: in how many documents, how much, and samples of before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmtune.words import printable

MOJIBAKE = "mojibake"  # lines
INVISIBLE = "invisible"  # characters
HYPHENS = "hyphens"  # words joined
BOILERPLATE = "boilerplate"  # characters
REPEATED = "repeated_paragraphs"  # characters
EVALUATION = "evaluation_text"  # characters
# Of personal data, the settings' names of the kinds: how often each was found.

_BEFORE, _AFTER = 80, 240  # characters shown around the first difference


@dataclass
class Changes:
    """documents: kind → documents changed. amounts: kind → how much, in the unit of the kind. samples: documents to
    show, at most `most_samples` a kind."""

    most_samples: int
    documents: Counter[str] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, str]] = field(default_factory=list)

    def add(self, id: str, kind: str, amount: int, before: str, after: str, hide: Callable[[str], str]) -> None:
        """Count a change of one document. hide: what a sample goes through, so that it shows no personal data."""
        self.count(kind, amount)
        if self.documents[kind] <= self.most_samples:
            before, after = hide(before), hide(after)
            both = enumerate(zip(before, after, strict=False))
            same = next((n for n, (one, other) in both if one != other), min(len(before), len(after)))
            shown = slice(max(0, same - _BEFORE), same + _AFTER)
            sample = {"id": id, "reason": kind, "before": before[shown], "text": after[shown]}
            self.samples.append({name: printable(text) for name, text in sample.items()})

    def count(self, kind: str, amount: int) -> None:
        """Count a change of one document of which there is nothing to show."""
        self.documents[kind] += 1
        self.amounts[kind] += amount

    def merge(self, other: Changes) -> None:
        """Add those of what comes next: another portion of the source, another source."""
        for sample in other.samples:
            if sum(one["reason"] == sample["reason"] for one in self.samples) < self.most_samples:
                self.samples.append(sample)
        self.documents.update(other.documents)
        self.amounts.update(other.amounts)

    def shown(self) -> list[dict[str, str]]:
        """At most `most_samples` samples over all kinds, taken in turn so that every kind is seen."""
        queues = [[sample for sample in self.samples if sample["reason"] == kind] for kind in sorted(self.documents)]
        shown: list[dict[str, str]] = []
        while len(shown) < self.most_samples and any(queues):
            shown.extend(queue.pop(0) for queue in queues if queue)
        return shown[: self.most_samples]

    def figures(self) -> dict[str, dict[str, int]]:
        """kind → {documents, amount}, for the card."""
        return {
            kind: {"documents": self.documents[kind], "amount": self.amounts[kind]} for kind in sorted(self.documents)
        }

    def to_json(self) -> dict[str, Any]:
        return {"documents": self.documents, "amounts": self.amounts, "samples": self.samples}

    @classmethod
    def from_json(cls, value: dict[str, Any], most_samples: int) -> Changes:
        return cls(most_samples, Counter(value["documents"]), Counter(value["amounts"]), value["samples"])

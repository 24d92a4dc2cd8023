"""What was left out and why: counted by reason, the first few named, fewer still kept to be shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from llmtune.corpus.dropped import DropLog
from llmtune.words import visible

TOO_SHORT = "too short"
NO_TEXT = "no text"
FORMAT = "no reader for this format"
PERSONAL = "personal data"
LINK = "link not followed"
EXACT = "exact duplicate"
NEAR = "near-duplicate"
KNOWN = "known document"
PERPLEXITY = "perplexity outside the band"
NOTHING_NEW = "repeated paragraphs"
BETWEEN = "between splits"
BUDGET = "beyond the source's budget"
CONTAMINATED = "evaluation text"

_NAMED = 20  # ids kept a reason; a corpus can lose millions of documents
EXCERPT = 600  # characters of a document shown in the report


@dataclass
class Drops:
    """counts: reason → documents, files or records. named: reason → the first ids with the detail. samples: dropped
    documents to show, at most `most_samples` a reason. log: where every one of them is put down, while it is open."""

    most_samples: int
    counts: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)
    log: DropLog | None = None

    def shows(self, reason: str) -> bool:
        """Whether the next one for this reason is among the samples."""
        return self.counts[reason] < self.most_samples

    def add(self, id: str, reason: str, detail: str, text: str = "") -> None:
        """Count one; `text` is its beginning, where there is any."""
        detail = visible(detail)
        if self.log is not None:
            self.log.add(id, reason, detail)
        self.counts[reason] += 1
        if self.counts[reason] <= _NAMED:
            self.named.setdefault(reason, []).append({"id": id, "detail": detail})
        if self.counts[reason] <= self.most_samples:
            self.samples.append({"id": id, "reason": reason, "detail": detail, "text": text[:EXCERPT]})

    def merge(self, other: Drops) -> None:
        """Add those of what comes next: another portion of the source, another source."""
        for sample in other.samples:
            if sum(one["reason"] == sample["reason"] for one in self.samples) < self.most_samples:
                self.samples.append(sample)
        self.counts.update(other.counts)
        for reason, named in other.named.items():
            kept = self.named.setdefault(reason, [])
            kept.extend(named[: _NAMED - len(kept)])

    def shown(self) -> list[dict[str, str]]:
        """At most `most_samples` samples over all reasons, taken in turn so that every reason is seen."""
        by_reason: dict[str, list[dict[str, str]]] = {}
        for sample in self.samples:
            by_reason.setdefault(sample["reason"], []).append(sample)
        queues = [list(by_reason[reason]) for reason in sorted(by_reason)]
        shown: list[dict[str, str]] = []
        while len(shown) < self.most_samples and any(queues):
            shown.extend(queue.pop(0) for queue in queues if queue)
        return shown[: self.most_samples]

    def sentence(self) -> str:
        """`3 too short, 1 binary file`, most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count} × {reason}" for reason, count in ordered)

    def to_json(self) -> dict[str, Any]:
        return {"counts": dict(sorted(self.counts.items())), "named": self.named, "samples": self.samples}

    @classmethod
    def from_json(cls, value: dict[str, Any], most_samples: int) -> Drops:
        return cls(most_samples, Counter(value["counts"]), value["named"], value["samples"])

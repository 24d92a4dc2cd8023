"""The few of many rows that a report shows."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field


@dataclass
class DrawnRows:
    """The few of many rows that come first in the order of a hash: the same whatever the order they were seen in."""

    most: int
    seed: int
    _rows: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def offer(self, *row: str) -> None:
        """Show it, if it is among the first."""
        digest = hashlib.sha256("\0".join((str(self.seed), *row)).encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), row)  # the heap's smallest is the last in that order
        if entry in self._rows:
            return
        heapq.heappush(self._rows, entry)
        if len(self._rows) > self.most:
            heapq.heappop(self._rows)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows to show, in that order."""
        return [row for _, row in sorted(self._rows, reverse=True)]


@dataclass
class DrawnByReason:
    """Rows to show for each reason, `most` of them in all, the reasons in turn so that each is seen."""

    most: int
    seed: int
    _reasons: dict[str, DrawnRows] = field(default_factory=dict)

    def offer(self, reason: str, *row: str) -> None:
        """Show it, if it is among the first of its reason."""
        self._reasons.setdefault(reason, DrawnRows(self.most, self.seed)).offer(*row)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows to show."""
        queues = [drawn.rows for _, drawn in sorted(self._reasons.items())]
        turns = (queue[turn] for turn in range(self.most) for queue in queues if turn < len(queue))
        return [row for row, _ in zip(turns, range(self.most), strict=False)]

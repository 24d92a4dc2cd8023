"""What a training takes in time. For metrics alone: nothing reads it to decide."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Time spent, for metrics alone. `step_seconds` and `step_tokens` leave this process's first step out."""

    started: float = field(default_factory=time.monotonic)
    first_step: float | None = None
    step_seconds: float = 0.0
    step_tokens: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens read in a second of training, over all ranks; None before the second step."""
        return self.step_tokens / self.step_seconds if self.step_seconds else None

    def tick(self, began: float, tokens: int) -> None:
        """A step that began then and read so many tokens is over."""
        now = time.monotonic()
        if self.first_step is None:
            self.first_step = now - self.started
        else:
            self.step_seconds += now - began
            self.step_tokens += tokens

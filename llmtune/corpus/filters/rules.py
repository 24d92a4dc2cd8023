"""Conditions that the user wrote."""

from __future__ import annotations

from collections.abc import Sequence

from llmtune.corpus.filters.expression import compiled
from llmtune.corpus.filters.features import View

RULE = "rule not met"


class RuleFilter:
    """Every rule must hold; the first that does not is the detail."""

    reason = RULE

    def __init__(self, rules: Sequence[str]) -> None:
        self._rules = [(rule, compiled(rule)) for rule in rules]

    def __reduce__(self) -> tuple[type[RuleFilter], tuple[list[str]]]:
        """To another process a filter goes as its rules."""
        return RuleFilter, ([rule for rule, _ in self._rules],)

    def judge(self, view: View) -> str | None:
        return next((rule for rule, holds in self._rules if not holds(view)), None)

"""Quality gates: the scores of a run so far, and whether a model meets its conditions."""

from __future__ import annotations

from typing import Any

from llmtune.recipe.graph import EVALUATION
from llmtune.run.folder import StageRecord


def scores_by_stage(records: dict[str, StageRecord]) -> dict[str, dict[str, Any]]:
    """The scores of each evaluated model by the id of the stage that made it, in the run's order."""
    return {
        name.removesuffix(EVALUATION): record.metrics for name, record in records.items() if record.kind == "evaluate"
    }


def check_gates(gates: dict[str, str], subject: str, records: dict[str, StageRecord]) -> list[Any]:
    """The results (llmtune.evaluate.gates.GateResult) of the gates on the model that stage `subject` made."""
    if not gates:
        return []
    from llmtune.evaluate.gates import check, parse_gate

    scores = scores_by_stage(records)
    parsed = [parse_gate(metric, text) for metric, text in gates.items()]
    return list(check(parsed, subject, scores))

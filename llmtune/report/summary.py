"""The two tables at the end of a run: what each stage took, and the scorecard."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from llmtune.report.collect import collect
from llmtune.words import human_bytes, human_seconds


def stage_table(folder: Path) -> Table | None:
    """Stages with time, peak memory against the plan, and size; None while there are none beside a study."""
    stages = collect(folder).stages
    if not stages:
        return None
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    for column in ("time", "peak memory", "planned", "on disk"):
        table.add_column(column, justify="right")
    for stage in stages:
        record = stage.record
        table.add_row(
            record.id + (" [dim](from the store)[/]" if record.reused else ""),
            human_seconds(record.actual.get("seconds", 0)),
            human_bytes(record.actual.get("memory", 0)),
            human_bytes(record.planned["memory"] or 0),
            human_bytes(record.actual.get("disk", 0)),
        )
    return table


def score_table(folder: Path) -> Table | None:
    """The scorecard, or None when nothing was evaluated."""
    from llmtune.evaluate.scorecard import Scorecard

    scores = collect(folder).scores
    return Scorecard(scores).table() if scores else None

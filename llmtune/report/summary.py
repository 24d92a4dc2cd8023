"""What is shown at the end of a run: what each stage took, the scorecard, and where the results lie."""

from __future__ import annotations

from rich.table import Table

from llmtune.artifacts import Artifact
from llmtune.evaluate.scorecard import Scorecard
from llmtune.report.collect import RunStory
from llmtune.words import human_bytes, human_seconds


def stage_table(story: RunStory) -> Table | None:
    """Stages with time, peak memory against the plan, and size; None while there are none beside a study."""
    if not story.stages:
        return None
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    for column in ("time", "peak memory", "planned", "on disk"):
        table.add_column(column, justify="right")
    for stage in story.stages:
        record = stage.record
        table.add_row(
            record.id + (" [dim](from the store)[/]" if record.reused else ""),
            human_seconds(record.actual.get("seconds", 0)),
            human_bytes(record.actual.get("memory", 0)),
            human_bytes(record.planned["memory"] or 0),
            human_bytes(record.actual.get("disk", 0)),
        )
    return table


def score_table(story: RunStory) -> Table | None:
    """The scorecard, or None when nothing was evaluated."""
    return Scorecard(story.scores).table() if story.scores else None


def results(story: RunStory) -> list[Artifact]:
    """What a run was made for: its bundles; without one its last checkpoint, or else its last corpus."""
    made = [stage.artifact for stage in story.stages if stage.artifact is not None]
    by_kind: dict[str, list[Artifact]] = {"bundle": [], "checkpoint": [], "corpus": []}
    for artifact in made:
        if artifact.kind in by_kind and artifact.made_by != "model":
            by_kind[artifact.kind].append(artifact)
    return by_kind["bundle"] or by_kind["checkpoint"][-1:] or by_kind["corpus"][-1:]

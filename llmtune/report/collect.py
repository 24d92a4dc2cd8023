"""Gathers what a report tells from a run's files: records, artifacts' cards and curves. Loads no model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.report.study import study_section
from llmtune.run.folder import RunFolder, StageRecord, artifacts_of_run, is_run, scores_by_stage
from llmtune.section import Section, read_section


@dataclass(frozen=True)
class FinishedStage:
    """A finished stage of the run with its artifact (None when the store was emptied since)."""

    record: StageRecord
    artifact: Artifact | None

    def read(self, name: str) -> Any:
        """A JSON file of the artifact, or None."""
        path = self.artifact.folder / name if self.artifact else None
        return read_json(path) if path and path.is_file() else None

    @property
    def section(self) -> Section | None:
        """What the stage itself has to show."""
        return read_section(self.artifact.folder) if self.artifact else None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A JSON-lines file of the artifact; empty when there is none."""
        path = self.artifact.folder / name if self.artifact else None
        if not path or not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


@dataclass(frozen=True)
class RunStory:
    """All that a report shows.

    scores: of each evaluated model, by the id of the stage that made it, in the run's order
    show_samples: whether text of the corpus and of answers may appear
    study: of the recipe's search; None where it has none
    """

    name: str
    stages: list[FinishedStage]
    scores: dict[str, dict[str, Any]]
    environment: dict[str, Any]
    recipe: str
    show_samples: bool
    study: Section | None = None

    def of_kind(self, *kinds: str) -> list[FinishedStage]:
        """The finished stages of some kinds."""
        return [stage for stage in self.stages if stage.record.kind in kinds]


def collect(folder: Path) -> RunStory:
    """Read a run folder; raises LlmtuneError when it is none, or nothing is finished in it."""
    files = RunFolder(folder)
    made = artifacts_of_run(folder) if is_run(folder) else []
    study = study_section(folder)
    if not made and study is None:
        raise LlmtuneError("no finished stage to report on", where=str(folder), fix="llmtune runs  lists the runs")
    stages = [FinishedStage(record, artifact) for record, artifact in made]
    recipe = files.recipe.read_text(encoding="utf-8")
    return RunStory(
        name=folder.resolve().name,
        stages=stages,
        scores=scores_by_stage(record for record, _ in made),
        environment=read_json(files.environment),
        recipe=without_machine_paths(recipe),
        show_samples=_wants_samples(recipe),
        study=study,
    )


def without_machine_paths(recipe: str) -> str:
    """The resolved recipe with absolute paths cut down to their last name, so that a report tells no user or host."""
    lines = []
    for line in recipe.splitlines():
        found = re.match(r"""(\s*(?:- )*(?:[^:]+: )?)['"]?(/.*?)['"]?$""", line)
        lines.append(f"{found[1]}…/{Path(found[2]).name}" if found else line)
    return "\n".join(lines)


def _wants_samples(recipe: str) -> bool:
    from ruamel.yaml import YAML

    settings = YAML(typ="safe", pure=True).load(recipe) or {}
    return bool((settings.get("report") or {}).get("samples", True))

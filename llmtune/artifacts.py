"""Artifacts: what stages make and take. One folder each, described by its `artifact.json`.

| kind       | what the folder holds |
| ---------- | --------------------- |
| corpus     | `train/ valid/ test/` Parquet shards, `card.json`, `samples.json` (see `llmtune/corpus/store.py`) |
| checkpoint | a Hugging Face model folder that transformers alone can load; `adapter/` with a LoRA's own weights |
| bundle     | files for a runtime, `README.md` (model card), `verification.json` (the proof) |
| scores     | `scores.json`: one model's row of the scorecard |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact
from llmtune.files import read_json

STORE = ".artifacts"  # the folder of all artifacts of a folder's runs
RUN_LOCK = "lock"  # the file that each run's folder has from its beginning on
DESCRIPTION = "artifact.json"
# A stage whose artifact stays where it lies (a base model in the hub's cache) leaves its place in this file.
LOCATION = "location.json"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact.

    folder:      where its files are (for a base model that is used where it lies, outside the store)
    fingerprint: of the settings, inputs and stage version that made it
    stage:       id of the stage in the run that made it
    made_by:     kind of that stage (`train`, `quantize`, …)
    metrics:     figures the stage measured
    lineage:     `{"stage", "made_by", "fingerprint", "settings", "inputs"}` of this artifact, inputs nested alike,
                 base model at the root; holds no path of the machine
    """

    kind: str
    folder: Path
    fingerprint: str
    stage: str
    made_by: str
    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The JSON form stored as `artifact.json`, but for its place: that of a folder elsewhere the store adds."""
        return {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "stage": self.stage,
            "made_by": self.made_by,
            "metrics": self.metrics,
            "lineage": self.lineage,
        }


def read_artifact(folder: Path) -> Artifact:
    """The artifact stored at `folder`; raises BadArtifact when its description is missing or damaged."""
    try:
        description = read_json(folder / DESCRIPTION)
        return Artifact(
            kind=description["kind"],
            folder=Path(description.get("location") or folder),
            fingerprint=description["fingerprint"],
            stage=description["stage"],
            made_by=description["made_by"],
            metrics=description["metrics"],
            lineage=description["lineage"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadArtifact(
            f"no readable {DESCRIPTION} ({type(error).__name__})",
            where=str(folder),
            fix="delete this folder and run the recipe again; what is finished elsewhere is kept",
        ) from error

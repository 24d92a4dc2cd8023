"""A tiny model and corpus, and one call that trains the one on the other, for tests of the loop."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from llmtune.corpus.store import Document, write_split
from llmtune.monitor import Monitor
from llmtune.training.session import HISTORY, train
from llmtune.training.settings import TrainSettings
from tests.tiny import TEXT, tiny_checkpoint

SMALL = {"row_tokens": 64, "batch_tokens": 512, "micro_batch": 4, "tokens": 3000, "lr": 3e-3, "precision": "fp32"}


def small_corpus(folder: Path, documents: int = 60) -> Path:
    """A corpus of short texts of unequal length, with a valid split."""
    made = []
    for number in range(documents):
        text = " ".join(TEXT[(number * 7 + part * 3) % len(TEXT)] for part in range(1 + number % 4)) + f" {number}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        made.append(Document(f"d{number}", text, None, "small", None, digest, str(number)))
    write_split(folder, "train", made[:-10])
    write_split(folder, "valid", made[-10:])
    return folder


def small_place(folder: Path, family: str = "llama") -> Path:
    """`model/` and `corpus/` below `folder`."""
    tiny_checkpoint(folder / "model", family)
    small_corpus(folder / "corpus")
    return folder


class Interrupting(Monitor):
    """Asks to stop once `asked` said yes, or fails once; keeps what was recorded."""

    def __init__(self, stop_after: int | None = None, fail_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.fail_after = fail_after
        self.steps: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def record(self, kind: str, **fields: Any) -> None:
        if kind == "step":
            self.steps.append(fields)
            if fields["step"] == self.fail_after:
                raise RuntimeError("the machine went away")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop_requested(self) -> bool:
        return self.stop_after is not None and bool(self.steps) and self.steps[-1]["step"] >= self.stop_after


def small_train(
    place: Path, name: str, monitor: Monitor | None = None, seed: int = 7, **changes: Any
) -> dict[str, Any]:
    """Train `place/model` on `place/corpus` into `place/name`; `changes` are settings (`objective`, `halvings` and
    `teacher` are passed on)."""
    options: dict[str, Any] = {key: changes.pop(key) for key in ("objective", "halvings", "teacher") if key in changes}
    settings = TrainSettings.model_validate({**SMALL, **changes})
    os.environ.setdefault("LLMTUNE_THREADS", "1")  # more threads only wait for each other on a model this small
    output = place / name / "output"
    output.mkdir(parents=True, exist_ok=True)
    work = place / name / "work"
    return train(
        place / "model", place / "corpus", settings, output=output, work=work, seed=seed, monitor=monitor, **options
    )


def history_of(place: Path, name: str) -> list[dict[str, Any]]:
    """The history that a training left."""
    return [json.loads(line) for line in (place / name / "output" / HISTORY).read_text().splitlines()]


def losses_of(place: Path, name: str) -> list[float]:
    """The loss of every step."""
    return [record["loss"] for record in history_of(place, name) if "loss" in record]

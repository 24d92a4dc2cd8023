"""Checkpoints to resume from: everything an exact continuation needs, each there whole or not at all.

    step-000120/weights.safetensors   trainable weights, fp32, by parameter name
                moments.safetensors   AdamW's running means (none after the last step)
                state.json            step, validation so far, history, optimizer's counters
    best-000080.safetensors           weights of the lowest validation loss so far

Learning rate, row order and random draws (dropout) are pure functions of the step and need no state. Safetensors and
JSON only: loading runs no code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from llmtune.errors import BadArtifact
from llmtune.files import empty_folder, publish_folder, read_json, sync_folder, write_json
from llmtune.training.engine import MOMENTS, Engine
from llmtune.training.inject import kill_if_injected
from llmtune.training.tensors import write_tensors

WEIGHTS, MOMENT_FILE, STATE = "weights.safetensors", "moments.safetensors", "state.json"


@dataclass
class Progress:
    """Where a run of training stands, after `step` steps.

    validated:  the last step whose validation is done
    best_step, best_loss: the lowest validation loss so far
    seen:       tokens read so far (padding left out)
    room:       tokens computed so far (padding counted)
    history:    one object a step or validation that led here, and one a roll-back; deterministic figures only
    anchor:     the last step whose state training can go back to
    skipped:    batches left out so far
    bad:        steps in a row that went wrong, up to here (guard.py)
    roll_backs: how often training went back
    typical:    the lowest that the loss has been, as a running median or before the first step; None: not known yet
    engine:     what `Engine.state` gave
    """

    step: int = 0
    validated: int = 0
    best_step: int = 0
    best_loss: float | None = None
    seen: int = 0
    room: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    engine: dict[str, Any] = field(default_factory=dict)
    anchor: int = 0
    skipped: int = 0
    bad: int = 0
    roll_backs: int = 0
    typical: float | None = None


class CheckpointStore:
    """The checkpoints of one run in one folder. All ranks call `save` and `save_best`; rank 0 alone writes."""

    def __init__(self, folder: Path, *, first: bool) -> None:
        self.folder = folder
        self.first = first

    def latest(self) -> Path | None:
        """The folder of the newest whole checkpoint."""
        return max(self.folder.glob("step-*"), key=_step_of, default=None)

    def progress(self, checkpoint: Path) -> Progress:
        """The state saved in a checkpoint. Raises BadArtifact."""
        try:
            return Progress(**read_json(checkpoint / STATE))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(checkpoint / STATE, checkpoint) from error

    def after(self, step: int) -> Path:
        """The folder of the checkpoint of step `step`."""
        return self.folder / f"step-{step:06d}"

    def best(self, step: int) -> Path:
        """Where the best weights are kept when step `step` made them."""
        return self.folder / f"best-{step:06d}.safetensors"

    def save_best(self, engine: Engine, step: int) -> None:
        """Keep the weights as the best so far; they count once a checkpoint names them."""
        write_tensors(self.best(step) if self.first else None, engine.shapes(), engine.weights())

    def save(self, engine: Engine, progress: Progress, *, last: bool) -> None:
        """Write the checkpoint of `progress.step`, then remove what it replaces; that of `progress.anchor` stays.
        `last`: nothing will be trained on from here, so the moments are left out."""
        final = self.after(progress.step)
        shapes = engine.shapes()
        temporary = None
        if self.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = empty_folder(self.folder / f".{final.name}.tmp")
        if progress.best_step == progress.step and progress.step:  # just written: share the file
            if temporary is not None:
                _share(self.best(progress.step), temporary / WEIGHTS)
        else:
            write_tensors(temporary and temporary / WEIGHTS, shapes, engine.weights())
        if not last and engine.updates:
            of_moments = {f"{name}.{moment}": shape for name, shape in shapes.items() for moment in MOMENTS}
            write_tensors(temporary and temporary / MOMENT_FILE, of_moments, engine.moments())
        progress.engine = engine.state()
        if temporary is None:
            return
        write_json(temporary / STATE, asdict(progress))
        kill_if_injected("checkpoint", progress.step)
        publish_folder(temporary, final)
        self._remove_all_but({progress.step, progress.anchor})

    def put_back(self, engine: Engine, step: int) -> Progress:
        """Return the engine to the checkpoint of step `step`, and remove the later ones. All ranks call it."""
        place = self.after(step)
        progress = self.progress(place)
        engine.put_back(read_tensors(place / WEIGHTS, place), read_moments(place), progress.engine)
        kill_if_injected("roll_back", step)
        if self.first:
            self._remove_all_but({step})
        return progress

    def _remove_all_but(self, steps: set[int]) -> None:
        """Keep the checkpoints of these steps, and the best weights they name."""
        kept = {folder for step in steps if (folder := self.after(step)).exists()}
        for folder in self.folder.glob("step-*"):
            if folder not in kept:  # half of a checkpoint must not be taken for one
                folder.rename(folder.with_name(f".{folder.name}.tmp"))
        for folder in self.folder.glob(".step-*"):
            shutil.rmtree(folder)
        best = {self.best(self.progress(folder).best_step) for folder in kept}
        for file in (*self.folder.glob("best-*"), *self.folder.glob(".best-*")):
            if file not in best:
                file.unlink()
        sync_folder(self.folder)


def read_tensors(path: Path, where: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on CPU. Raises BadArtifact naming the checkpoint `where` to delete."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, where) from error


def read_moments(checkpoint: Path) -> dict[str, Tensor]:
    """The moments of a checkpoint; none when no update came before it."""
    path = checkpoint / MOMENT_FILE
    return read_tensors(path, checkpoint) if path.exists() else {}


def load_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Copy trainable weights into a model by name. Raises BadArtifact when names or shapes are not its own."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if trainable.keys() != weights.keys():
        odd = sorted(trainable.keys() ^ weights.keys())[0]
        raise BadArtifact("saved weights are not those of this model", where=odd)
    for name, parameter in trainable.items():
        if parameter.shape != weights[name].shape:
            raise BadArtifact(f"saved weight has shape {tuple(weights[name].shape)}", where=name)
        parameter.data.copy_(weights[name])


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _damaged(path: Path, where: Path) -> BadArtifact:
    return BadArtifact("damaged training checkpoint", where=str(path), fix=f"delete {where}: training starts again")

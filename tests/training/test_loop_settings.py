"""Every setting of training is read: change it, and what is learned, or what is written, changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.training.settings import OptimizerSettings, ScheduleSettings, TrainSettings, ValidationSettings
from tests.tiny import tiny_checkpoint
from tests.training.small_run import SMALL, history_of, losses_of, small_place, small_train

# field → a value that must change the history; those that other tests cover are in ELSEWHERE
CHANGES: dict[str, Any] = {
    "adapter": {"type": "lora", "rank": 4},
    "masking": {"type": "causal", "token": "<|endoftext|>"},
    "precision": "bf16",
    "tokens": 900,
    "epochs": 0.3,
    "row_tokens": 32,
    "batch_tokens": 256,
    "micro_batch": 2,
    "lr": 1e-3,
    "seed": 99,
    "schedule.type": "linear",
    "schedule.warmup": 0.5,
    "schedule.decay": 0.6,
    "schedule.floor": 0.9,
    "optimizer.weight_decay": 0.5,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.5,
    "optimizer.epsilon": 1e-2,
    "optimizer.clip": 0.01,
    "validation.every": 3,
    "validation.rows": 2,
}
ELSEWHERE = {
    "validation.keep": "test_loop.py::test_best_weights_are_kept",
    "router": "test_router_losses.py::test_coefficients_are_read",
    "guard": "test_guard.py::test_each_setting_is_read",
    "checkpoint_steps": "below",
    "gradient_checkpointing": "below",
    "compile": "below",
    "device": "test_loop.py::test_formats_that_cannot_be_trained_in_are_refused",
}
BLOCKS = {"schedule": ScheduleSettings, "optimizer": OptimizerSettings, "validation": ValidationSettings}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = small_place(tmp_path_factory.mktemp("settings"))
    small_train(place, "base", tokens=2000)
    small_train(place, "base-wsd", tokens=2000, schedule={"type": "wsd"})
    return place


def test_the_table_is_complete() -> None:
    fields = {f"{block}.{name}" for block, kind in BLOCKS.items() for name in kind.model_fields}
    fields |= set(TrainSettings.model_fields) - set(BLOCKS)
    assert fields == set(CHANGES) | set(ELSEWHERE)


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_setting_is_read(place: Path, field: str) -> None:
    block, _, name = field.rpartition(".")
    base, settings = "base", {block: {name: CHANGES[field]}} if block else {name: CHANGES[field]}
    if field == "schedule.decay":
        base, settings = "base-wsd", {"schedule": {"type": "wsd", "decay": 0.6}}
    if field == "epochs":
        settings["tokens"] = None
    small_train(place, field, **{"tokens": 2000, **settings})
    assert history_of(place, field) != history_of(place, base)


def test_gradient_checkpointing_computes_the_same_from_less(place: Path) -> None:
    import torch

    from llmtune.training.loss import next_token_loss
    from llmtune.training.preparation import prepared_model
    from tests.training.test_loss import two_documents

    kept = {}
    for checkpointing in (False, True):
        settings = TrainSettings.model_validate({**SMALL, "gradient_checkpointing": checkpointing})
        model = prepared_model(place / "model", settings, 0, device=torch.device("cpu"), trust_remote_code=False)
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = next_token_loss(model, two_documents())
        kept[checkpointing] = (loss.item(), sum(sizes))
    assert kept[True][0] == pytest.approx(kept[False][0], abs=1e-5)
    assert kept[True][1] < 0.5 * kept[False][1]


def test_checkpoint_steps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtune.training.checkpoint import CheckpointStore

    saved: list[int] = []
    save = CheckpointStore.save

    def noting(self: CheckpointStore, engine: Any, progress: Any, *, last: bool) -> None:
        saved.append(progress.step)
        save(self, engine, progress, last=last)

    monkeypatch.setattr(CheckpointStore, "save", noting)
    small_train(place, "checkpoints", checkpoint_steps=3)
    assert saved == [0, 2, 3, 4, 6, 7]  # with those that a roll-back can go to
    saved.clear()
    small_train(place, "checkpoints-alone", checkpoint_steps=3, guard=None)
    assert saved == [3, 6, 7]


@pytest.mark.slow
def test_compiled_losses_are_the_same(place: Path, tmp_path: Path) -> None:
    """Of a model of one layer: what takes the time is the compiler."""
    tiny_checkpoint(tmp_path / "model", layers=1)
    (tmp_path / "corpus").symlink_to(place / "corpus")
    for name in ("compiled", "eager"):
        small_train(tmp_path, name, compile=name == "compiled", tokens=2000, guard=None)
    assert losses_of(tmp_path, "compiled") == pytest.approx(losses_of(tmp_path, "eager"), abs=1e-3)

"""Files of a checkpoint: written whole or not at all, read by safetensors, replaced, refused when damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmtune.errors import BadArtifact
from llmtune.training.checkpoint import CheckpointStore, Progress, load_weights, read_moments, read_tensors
from llmtune.training.devices import Devices
from llmtune.training.engine import Engine
from llmtune.training.objective import Outcome
from llmtune.training.optimizer import split_by_decay
from llmtune.training.settings import TrainSettings
from llmtune.training.tensors import sort_metadata, write_tensors
from tests.tiny import tiny_model


class SquaredError:
    """An objective for a linear layer."""

    def weight(self, batch: Any) -> torch.Tensor:
        return torch.tensor(float(len(batch["input_ids"])))

    def __call__(self, model: nn.Module, batch: Any) -> Outcome:
        return Outcome(model(batch["input_ids"]).square().sum(), self.weight(batch), {})


def engine_of(model: nn.Module) -> Engine:
    alone = SimpleNamespace(prepare_model=lambda module: module, state=SimpleNamespace(deepspeed_plugin=None))
    return Engine(model, SquaredError(), TrainSettings(precision="fp32"), Devices(alone, torch.device("cpu"), 0, 1))


def trained(steps: int, model: nn.Module) -> Engine:
    engine = engine_of(model)
    for step in range(steps):
        batch = {"input_ids": torch.randn(3, 4, generator=torch.Generator().manual_seed(step))}
        engine.train_on(batch, 1.0, last=True)
        engine.update(0.1)
    return engine


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def test_tensors_are_what_the_library_reads(tmp_path: Path) -> None:
    values = {"a.weight": torch.randn(3, 5), "b": torch.tensor(2.5), "transposed": torch.randn(4, 2).T}
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    write_tensors(tmp_path / "x.safetensors", shapes, ((n, lambda v=v: v) for n, v in values.items()))
    again = load_file(tmp_path / "x.safetensors")
    assert again.keys() == values.keys()
    assert all(torch.equal(again[name], value) for name, value in values.items())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": (2,)}, [("a", lambda: torch.ones(2))])

    def broken() -> torch.Tensor:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_tensors(path, {"a": (2,), "b": (2,)}, [("a", lambda: torch.zeros(2)), ("b", broken)])
    with pytest.raises(ValueError, match="expected a"):
        write_tensors(path, {"a": (2,)}, [("a", lambda: torch.zeros(3))])
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert load_file(path)["a"].tolist() == [1.0, 1.0]


def test_metadata_is_put_in_order(tmp_path: Path) -> None:
    seen = set()
    for attempt in range(12):  # the library's own order is random
        path = tmp_path / f"{attempt}.safetensors"
        save_file({"a": torch.arange(4.0)}, path, metadata={"format": "pt", "zeta": "é", "base": "x"})
        sort_metadata(path)
        seen.add(path.read_bytes())
        assert load_file(path)["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert len(seen) == 1


def test_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = trained(6, linear())
    store = CheckpointStore(tmp_path, first=True)
    model = linear()
    engine = trained(3, model)
    store.save(engine, Progress(step=3), last=False)
    newest = store.latest()
    assert newest is not None
    model = linear()
    load_weights(model, read_tensors(newest / "weights.safetensors", newest))
    engine = engine_of(model)
    engine.restore(read_moments(newest), store.progress(newest).engine)
    for step in range(3, 6):
        engine.train_on({"input_ids": torch.randn(3, 4, generator=torch.Generator().manual_seed(step))}, 1.0, last=True)
        engine.update(0.1)
    assert engine.updates == 6
    for mine, theirs in zip(model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_new_replaces_the_old_and_the_best_stays(tmp_path: Path) -> None:
    store, engine = CheckpointStore(tmp_path, first=True), trained(1, linear())
    store.save_best(engine, 1)
    store.save(engine, Progress(step=1, best_step=1), last=False)
    assert os.stat(store.best(1)).st_nlink == 2  # shared with the checkpoint, not written twice
    store.save(engine, Progress(step=2, best_step=1), last=False)
    (tmp_path / ".step-000003.tmp").mkdir()  # left by a kill
    (tmp_path / ".best-000003.safetensors.1.tmp").touch()
    store.save(engine, Progress(step=4, best_step=1), last=True)
    assert sorted(os.listdir(tmp_path)) == ["best-000001.safetensors", "step-000004"]
    assert sorted(os.listdir(tmp_path / "step-000004")) == ["state.json", "weights.safetensors"]


def test_ranks_above_0_write_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "none", first=False)
    store.save_best(trained(1, linear()), 1)
    store.save(trained(1, linear()), Progress(step=1), last=False)
    assert not (tmp_path / "none").exists()


def damage(folder: Path) -> Iterator[None]:
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-5])
    yield
    weights.write_bytes(whole)
    (folder / "state.json").write_text("{}x")
    yield


def test_damage_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, first=True)
    store.save(trained(1, linear()), Progress(step=1), last=False)
    newest = store.latest()
    assert newest is not None
    damages = damage(newest)
    next(damages)
    with pytest.raises(BadArtifact, match="damaged training checkpoint"):
        read_tensors(newest / "weights.safetensors", newest)
    next(damages)
    with pytest.raises(BadArtifact, match="damaged training checkpoint"):
        store.progress(newest)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(BadArtifact, match="not those of this model"):
        load_weights(linear(), {"weight": torch.zeros(4, 4)})
    with pytest.raises(BadArtifact, match="shape"):
        load_weights(linear(), {"weight": torch.zeros(4, 3), "bias": torch.zeros(4)})


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen2"])
def test_norms_biases_and_embeddings_have_no_weight_decay(family: str) -> None:
    model = tiny_model(family)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, plain = split_by_decay(model)
    assert len(decayed) + len(plain) == len(names)
    assert all(p.ndim == 2 for p in decayed)
    assert not any(word in names[id(p)] for p in decayed for word in ("embed", "wte", "wpe", "norm", "ln_", "bias"))
    assert all(any(word in names[id(p)] for word in ("embed", "wte", "wpe", "norm", "ln_", "bias")) for p in plain)

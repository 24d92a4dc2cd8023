"""The engine under FSDP2: weights, gradients and AdamW's moments are spread over the ranks (Zhao et al. 2023,
arXiv 2304.11277; torch's `fully_shard`).

Each decoder layer is gathered as a whole when a pass comes to it. What is left, embeddings and head, belongs to the
training step and stays gathered through the forward pass, so that the loss may call the head outside of it. State is
saved by parameter name, whole, as under ZeRO.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from llmtune.training.engine import Engine
from llmtune.training.objective import Batch, Outcome, TrainingStep
from llmtune.training.optimizer import make_optimizer
from llmtune.training.settings import TrainSettings


class FsdpEngine(Engine):
    """See the module. Frozen weights of an adapter's base are spread too."""

    def _prepare(self, step: TrainingStep, settings: TrainSettings) -> None:
        mesh = init_device_mesh(self.devices.device.type, (self.devices.world,))
        again = os.environ.get("FSDP_RESHARD_AFTER_FORWARD") != "false"
        for layer in decoder_layers(self.model):
            fully_shard(layer, mesh=mesh, reshard_after_forward=again)
        self.module = fully_shard(step, mesh=mesh, reshard_after_forward=False)
        self.optimizer = make_optimizer(self.model, settings.optimizer)
        self.scaler = torch.amp.GradScaler(self.devices.device.type, enabled=False)

    def evaluate(self, batch: Batch, *, training: bool = False) -> Outcome:
        """No backward pass comes after it, at whose end the model's parameters would be the spread ones again."""
        outcome = super().evaluate(batch, training=training)
        for part in self.module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()
        return outcome

    def weights(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        for name, get in super().weights():
            yield name, lambda g=get: g().full_tensor()  # type: ignore[misc]

    def moments(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        for name, get in super().moments():
            yield name, lambda g=get: g().full_tensor()  # type: ignore[misc]

    def restore(self, moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        parameters = dict(self.trainable())
        parts = {key: _part(whole, parameters[key.rpartition(".")[0]]) for key, whole in moments.items()}
        super().restore(parts, state)

    def put_back(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        parts = {name: _part(weights[name], parameter) for name, parameter in self.trainable()}
        super().put_back(parts, moments, state)

    def _without_sharing(self) -> AbstractContextManager[None]:
        return nullcontext()  # gradients are spread in every pass, or they would stand whole on each rank


def _part(whole: Tensor, like: nn.Parameter) -> DTensor:
    """This rank's part of a tensor that every rank has whole, spread as the parameter `like` is."""
    assert isinstance(like, DTensor)
    whole = whole.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder's (or encoder's) layers: what transformers says must not be split over devices, of the lists of the
    model. What is in no list, BERT's embeddings above all, is read by the head too and belongs to the root."""
    names = {name for part in model.modules() for name in (getattr(part, "_no_split_modules", None) or ())}
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    return [layer for layers in lists for layer in layers if type(layer).__name__ in names]

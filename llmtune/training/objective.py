"""Objectives: what a training step minimises. Every kind of training is the same loop with another objective.

An objective gives the loss *summed* over what it trains on, and the weight of that sum (how many targets it has). The
loop divides by the weight of the whole global batch, over micro-batches and ranks, so that neither changes the gradient
(averaging each micro-batch on its own weighs a token of a short one more: transformers #34191).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from llmtune.models.families import is_encoder
from llmtune.training.collate import NOT_TRAINED
from llmtune.training.loss import masked_token_loss, next_token_loss

Batch = Mapping[str, Tensor]


class Outcome(NamedTuple):
    """What an objective makes of one micro-batch.

    loss:    scalar fp32, summed over the targets, differentiable
    weight:  scalar; the same as `Objective.weight(batch)`
    metrics: further sums over the targets (scalars), shown and recorded divided by the global weight
    """

    loss: Tensor
    weight: Tensor
    metrics: dict[str, Tensor]


class Objective(Protocol):
    """See the module. Another objective is another class with these two methods."""

    def weight(self, batch: Batch) -> Tensor:
        """The weight of a batch, from the batch alone: the loop needs the sum over the step before its first pass."""
        ...

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        """Run the model on a collated batch."""
        ...


class NextToken:
    """Cross entropy of the next token at the positions whose label is not -100; its weight is their number."""

    def weight(self, batch: Batch) -> Tensor:
        return (batch["labels"][:, 1:] != NOT_TRAINED).sum()

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return Outcome(next_token_loss(model, batch), self.weight(batch), {})


class MaskedToken:
    """Cross entropy of an encoder at the positions whose label is not -100; its weight is their number."""

    def weight(self, batch: Batch) -> Tensor:
        return (batch["labels"] != NOT_TRAINED).sum()

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return Outcome(masked_token_loss(model, batch), self.weight(batch), {})


def objective_for(config: Mapping[str, Any]) -> Objective:
    """What a model with this `config.json` is trained on."""
    return MaskedToken() if is_encoder(config) else NextToken()


class TrainingStep(nn.Module):
    """Model and objective as one module, whose `forward` is the whole forward pass of a micro-batch: this is what
    Accelerate wraps, so that the hooks of DDP and ZeRO fire once a pass."""

    def __init__(self, model: nn.Module, objective: Objective, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.autocast = autocast

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The objective's outcome under autocast (a plain tuple: DDP looks for tensors in it)."""
        device = batch["input_ids"].device.type
        with torch.autocast(device, self.autocast, enabled=self.autocast is not None):
            return tuple(self.objective(self.model, batch))  # type: ignore[return-value]

"""AdamW over the trainable weights, with weight decay where it belongs."""

from __future__ import annotations

import torch
from torch import nn

from llmtune.training.settings import OptimizerSettings


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, learning rate 0 (each step sets its own).

    Fused: one pass over memory for the whole update, on CPU and GPU.
    """
    decayed, plain = split_by_decay(model)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, settings.weight_decay), (plain, 0.0))
        if parameters
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=settings.epsilon, fused=True)


def split_by_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with weight decay (matrices), and without (norms, biases, embeddings and a tied head)."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim >= 2 and id(p) not in embeddings]
    kept = {id(p) for p in decayed}
    return decayed, [p for p in trainable if id(p) not in kept]

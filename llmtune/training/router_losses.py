"""What keeps the routers of a mixture of experts in order, added to any objective.

Balance (Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961; for several experts a token as in Mixtral):
E Σ f_e P_e, where f_e is the share of a layer's choices that fell on expert e, and P_e the mean probability that the
router gave it. It is 1 where both are even, and up to E where one expert gets everything. z (Zoph et al. 2022,
"ST-MoE", arXiv:2202.08906): the mean of log² Σ exp of a token's logits, which keeps them small. Both are means over
layers and tokens.

Tokens count on which some target depends: padding, and what stands behind the last target of a row, do not. The losses
are of one micro-batch at a time, so that its size has a (small) part in the gradient, unlike anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmtune.section import Chart
from llmtune.training.collate import NOT_TRAINED
from llmtune.training.loss import causal_model, decoder_of
from llmtune.training.objective import Batch, Objective, Outcome
from llmtune.training.router_plan import trains_routers
from llmtune.training.settings import RouterSettings, TrainSettings


class RouterLosses:
    """An objective and the routers' losses, times its weight. In evaluation it is the objective alone, so that the
    losses of dense and mixed models compare. Metrics: `objective`, the loss without them; `balance` and `z`; and
    `expert_share`, the largest share of the choices that any expert of any layer got.

    model:      whose routers to listen to, by hooks; a wrapper around it may be what is trained
    balance, z: coefficients
    """

    def __init__(self, objective: Objective, model: nn.Module, balance: float, z: float) -> None:
        self.objective = objective
        self.balance = balance
        self.z = z
        causal: Any = causal_model(model)
        self.active = int(causal.config.num_experts_per_tok)
        self._found: list[Tensor] | None = None  # logits (N, E) by layer; None: not listening (recomputation)
        for router in routers_of(model):
            router.register_forward_hook(self._keep)

    def weight(self, batch: Batch) -> Tensor:
        return self.objective.weight(batch)

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        if not model.training:
            return self.objective(model, batch)
        self._found = []
        try:
            outcome, found = self.objective(model, batch), self._found
        finally:
            self._found = None
        counts_N = counted(batch).flatten()
        layers = [router_terms(logits_NE.float(), counts_N, self.active) for logits_NE in found]
        balance, z, share_E = (torch.stack(terms) for terms in zip(*layers, strict=True))
        weight = outcome.weight
        loss = outcome.loss + weight * (self.balance * balance.mean() + self.z * z.mean())
        metrics = {
            "objective": outcome.loss,
            "balance": balance.mean() * weight,
            "z": z.mean() * weight,
            "expert_share": share_E.max() * weight,
        }
        return Outcome(loss, weight, outcome.metrics | metrics)

    @torch.compiler.disable
    def _keep(self, router: nn.Module, inputs: Any, outputs: Any) -> None:
        if self._found is not None:
            self._found.append(outputs[0])


def router_terms(logits_NE: Tensor, counts_N: Tensor, active: int) -> tuple[Tensor, Tensor, Tensor]:
    """Balance and z (scalars) of one layer over the tokens that count, and the share of the choices of each expert (E).
    All are zero where no token counts."""
    counts_N = counts_N.to(logits_NE.dtype)
    tokens = counts_N.sum().clamp(min=1)
    chosen_NK = logits_NE.topk(active, dim=1).indices
    choices_NE = F.one_hot(chosen_NK, logits_NE.shape[1]).sum(1).to(logits_NE.dtype)
    share_E = counts_N @ choices_NE / (tokens * active)
    probability_E = counts_N @ logits_NE.softmax(1) / tokens
    z = counts_N @ logits_NE.logsumexp(1).square() / tokens
    return logits_NE.shape[1] * (share_E * probability_E).sum(), z, share_E


def counted(batch: Batch) -> Tensor:
    """Whether some target of its row depends on a token: (B, T) bool. Under a causal mask, all before the last one."""
    trained_BT = batch["labels"] != NOT_TRAINED
    behind_BT = trained_BT.flip(1).cumsum(1).flip(1)  # targets at this place and after it
    return F.pad(behind_BT[:, 1:], (0, 1)) > 0


def routers_of(model: nn.Module) -> list[nn.Module]:
    """The routers of a model of one of ROUTED_BY_SOFTMAX, in its order. Their outputs begin with the logits (N, E)."""
    decoder: Any = decoder_of(causal_model(model))
    kind = decoder._can_record_outputs["router_logits"].target_class
    return [module for module in decoder.modules() if isinstance(module, kind)]


def curves_of_routers(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """How evenly the experts were used over the steps of a training, for the report; nothing for a dense model."""
    steps = [record for record in history if "expert_share" in record]
    if not steps:
        return []
    series = {
        "balance loss (1: even)": [record["balance"] for record in steps],
        "largest share of any expert": [record["expert_share"] for record in steps],
    }
    return [Chart("Load of the experts", "lines", [record["step"] for record in steps], series, x_title="step")]


def with_router_losses(
    objective: Objective, model: nn.Module, settings: TrainSettings, config: Mapping[str, Any]
) -> Objective:
    """The objective with the losses of the routers, where routers that are known are trained; else as it is."""
    if not trains_routers(settings, config):
        return objective
    losses = settings.router or RouterSettings()
    return RouterLosses(objective, model, losses.balance, losses.z)

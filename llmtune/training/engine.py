"""The machinery under the loop: forward and backward passes, the optimizer, and its state by parameter name.

`Engine` trains on one device or with DDP; `ZeroEngine` (zero.py) under DeepSpeed, `FsdpEngine` (fsdp.py) under FSDP2.
The loop knows only this interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from llmtune.training.devices import Devices
from llmtune.training.objective import Batch, Objective, Outcome, TrainingStep
from llmtune.training.optimizer import make_optimizer
from llmtune.training.settings import TrainSettings

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state, beside the count of updates
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


class Engine:
    """Forward, backward and update on one device, or on several with DDP.

    model:   with its trainable parameters in fp32
    updates: optimizer updates so far (fp16 leaves a step out when its gradient overflows)
    """

    def __init__(self, model: nn.Module, objective: Objective, settings: TrainSettings, devices: Devices) -> None:
        self.model = model
        self.objective = objective
        self.devices = devices
        self.clip = settings.optimizer.clip
        self.updates = 0
        step = TrainingStep(model, objective, AUTOCAST[settings.precision])
        self._prepare(step, settings)

    def _prepare(self, step: TrainingStep, settings: TrainSettings) -> None:
        self.module: Any = self.devices.accelerator.prepare_model(step)
        self.optimizer: Any = make_optimizer(self.model, settings.optimizer)
        self.scaler = torch.amp.GradScaler(self.devices.device.type, enabled=settings.precision == "fp16")

    def train_on(self, batch: Batch, scale: float, last: bool) -> Outcome:
        """One micro-batch, forward and backward; gradients of `scale` × loss are added up, averaged over the ranks.

        last: of the step; the ranks share gradients only then.
        """
        with nullcontext() if last else self._without_sharing():
            loss, weight, metrics = self.module(self._placed(batch))
            # The second term is 0, or not a number where the loss is not finite: then the gradient is not either, and
            # `update` leaves the weights alone, on all ranks.
            self._backward(loss * (scale + 0 * loss.detach()), last)
        return Outcome(loss.detach(), weight, {name: value.detach() for name, value in metrics.items()})

    @torch.no_grad()
    def evaluate(self, batch: Batch, *, training: bool = False) -> Outcome:
        """One micro-batch, forward only: what a validation measures, without dropout. training: what a step measures,
        with dropout, and with all that its objective adds."""
        self.module.train(training)
        loss, weight, metrics = self.module(self._placed(batch))
        self.module.train()
        return Outcome(loss, weight, metrics)

    def update(self, rate: float) -> float:
        """Clip the gradients, make one update with learning rate `rate`, forget the gradients.

        Returns the global norm of the gradient before clipping. When it is not finite nothing is updated (with fp16 the
        loss scale is lowered).
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        length = float(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.updates += 1
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return length

    def forgives_overflow(self) -> bool:
        """Whether a gradient that is not finite only means that fp16's loss scale was too high."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1.0

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Trainable parameters by name, tied ones once, in the model's order."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Whole shapes of the trainable parameters, also where each rank holds only a part."""
        return {name: tuple(getattr(p, "ds_shape", p.shape)) for name, p in self.trainable()}

    def weights(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        """Trainable weights (fp32) by name, one at a time; every rank must ask for each, in this order."""
        for name, parameter in self.trainable():
            yield name, lambda p=parameter: p.detach()  # type: ignore[misc]

    def moments(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        """AdamW's running means by `name.exp_avg` and `name.exp_avg_sq`; like `weights`."""
        for name, parameter in self.trainable():
            for moment in MOMENTS:
                yield f"{name}.{moment}", lambda p=parameter, m=moment: self.optimizer.state[p][m]  # type: ignore[misc]

    def state(self) -> dict[str, Any]:
        """What else a resume needs (JSON)."""
        return {"updates": self.updates, "scaler": self.scaler.state_dict()}

    def restore(self, moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from saved moments and state; the weights were loaded before the engine was made."""
        self.updates = int(state["updates"])
        self.scaler.load_state_dict(dict(state["scaler"]))
        if not self.updates:
            return
        for name, parameter in self.trainable():
            count = torch.tensor(float(self.updates), device=parameter.device)
            kept = {m: moments[f"{name}.{m}"].to(parameter.device, copy=True) for m in MOMENTS}
            self.optimizer.state[parameter] = {"step": count, **kept}

    def put_back(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Return to a saved state between two steps: what `weights`, `moments` and `state` gave then."""
        for name, parameter in self.trainable():
            parameter.data.copy_(weights[name])
        self.optimizer.state.clear()
        self.restore(moments, state)

    def _without_sharing(self) -> AbstractContextManager[None]:
        """Passes within only add up this rank's gradients."""
        return self.module.no_sync() if hasattr(self.module, "no_sync") else nullcontext()

    def _backward(self, loss: Tensor, last: bool) -> None:
        self.scaler.scale(loss).backward()

    def _placed(self, batch: Batch) -> dict[str, Tensor]:
        return {name: tensor.to(self.devices.device, non_blocking=True) for name, tensor in batch.items()}


def make_engine(model: nn.Module, objective: Objective, settings: TrainSettings, devices: Devices) -> Engine:
    """The engine for the way this process was launched."""
    if devices.zero_stage is not None:
        from llmtune.training.zero import ZeroEngine

        return ZeroEngine(model, objective, settings, devices)
    if devices.fsdp:
        from llmtune.training.fsdp import FsdpEngine

        return FsdpEngine(model, objective, settings, devices)
    return Engine(model, objective, settings, devices)

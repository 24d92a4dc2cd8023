"""The engine under DeepSpeed: ZeRO-1, 2 and 3.

Weights stay fp32 and the passes run under our own autocast, as on one device, so the loss curve is the same. State is
saved by parameter name, whole, so a checkpoint knows nothing of the partitions and holds no pickles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from llmtune.extras import need
from llmtune.training.engine import MOMENTS, Engine
from llmtune.training.objective import TrainingStep
from llmtune.training.optimizer import make_optimizer
from llmtune.training.settings import TrainSettings


class ZeroEngine(Engine):
    """See the module. DeepSpeed clips, averages over the ranks and updates."""

    def _prepare(self, step: TrainingStep, settings: TrainSettings) -> None:
        need("deepspeed", "training under a DeepSpeed launch configuration")
        optimizer = make_optimizer(self.model, settings.optimizer)
        self.module, self.optimizer = self.devices.accelerator.prepare(step, optimizer)
        self._zero = self.module.optimizer  # DeepSpeed's own wrapper around AdamW
        self.scaler = torch.amp.GradScaler(self.devices.device.type, enabled=False)

    def _without_sharing(self) -> AbstractContextManager[None]:
        return nullcontext()  # partitioned gradients are reduced in every pass

    def _backward(self, loss: Tensor, last: bool) -> None:
        # The loop has divided by the whole batch already: DeepSpeed must not divide by the accumulation again.
        self.module.set_gradient_accumulation_boundary(is_boundary=last)
        self.module.backward(loss, scale_wrt_gas=False)

    def update(self, rate: float) -> float:
        for group in self.module.optimizer.param_groups:
            group["lr"] = rate
        self.module.step()
        if self._zero.overflow:  # the gradient was not finite: DeepSpeed updated nothing
            return math.inf
        self.updates += 1
        return float(self.module.get_global_grad_norm())

    def weights(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        from deepspeed.utils import safe_get_full_fp32_param

        for name, parameter in self.trainable():
            yield name, lambda p=parameter: safe_get_full_fp32_param(p)  # type: ignore[misc]

    def moments(self) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link_moments()
        for name, parameter in self.trainable():
            for moment in MOMENTS:
                yield f"{name}.{moment}", lambda p=parameter, m=moment: safe_get_full_optimizer_state(p, m)  # type: ignore[misc]

    def restore(self, moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.updates = int(state["updates"])
        if not self.updates:
            return
        self._put_moments(moments)

    def put_back(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        for name, parameter in self.trainable():
            self._put_weight(parameter, weights[name].to(self.devices.device))
        self.updates = int(state["updates"])
        self._put_moments(moments)

    def _put_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Fill AdamW's state; before the first update its moments are 0."""
        self._make_moments()
        for name, parameter in self.trainable():
            for moment in MOMENTS if self.updates else ():
                self._put_moment(parameter, moments[f"{name}.{moment}"].to(self.devices.device), moment)

    def _make_moments(self) -> None:
        """AdamW makes its state at the first update; make it now, to be filled."""
        partitions = "single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"  # ZeRO-1 and 2; ZeRO-3
        flat = next(getattr(self._zero, name) for name in partitions if hasattr(self._zero, name))
        for partition in flat:
            count = torch.tensor(float(self.updates), device=partition.device)
            empty = {moment: torch.zeros_like(partition) for moment in MOMENTS}
            self._zero.optimizer.state[partition] = {"step": count, **empty}
        self._link_moments()

    def _link_moments(self) -> None:
        """Tell ZeRO-1 and 2 where in the flat state the moments of each parameter lie.

        DeepSpeed 0.19 does so itself after the update of the first parameter group, when the others have none yet.
        """
        if hasattr(self._zero, "_lazy_init_hp_params_optimizer_state"):
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _put_moment(self, parameter: Any, value: Tensor, moment: str) -> None:
        """Give each rank its part of a whole moment."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if hasattr(parameter, "ds_id"):
            safe_set_local_optimizer_state(parameter, self._part(parameter, value), moment)
        else:
            safe_set_full_optimizer_state(parameter, value, moment)

    def _put_weight(self, parameter: Any, value: Tensor) -> None:
        """Give each rank its part of a whole weight: the one that is updated, and the one that the passes read."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        if hasattr(parameter, "ds_id"):
            part = self._part(parameter, value)
            safe_set_local_fp32_param(parameter, part)
            parameter.ds_tensor.data.copy_(part)
            if parameter.data.numel() == parameter.ds_numel:  # small ones stay gathered
                parameter.data.copy_(value)
        else:
            safe_set_full_fp32_param(parameter, value)
            parameter.data.copy_(value)

    def _part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's part under ZeRO-3 of a whole tensor; the last rank's is padded."""
        part = parameter.ds_tensor.numel()
        padded = torch.zeros(part * self.devices.world, dtype=value.dtype, device=value.device)
        padded[: value.numel()] = value.reshape(-1)
        return padded[part * self.devices.rank :][:part].clone()

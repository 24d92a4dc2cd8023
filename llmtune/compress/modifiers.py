"""llmcompressor's modifiers and observers as we run them: GPTQ that can stop between layers and go on after a kill, and
scales that survive in fp16.

Imports llmcompressor; import this module late.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.offload import update_offload_parameter
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.observers import Observer
from llmcompressor.observers.imatrix import IMatrixMSEObserver
from llmcompressor.observers.min_max import MemorylessMinMaxObserver
from llmcompressor.observers.mse import MemorylessMSEObserver
from pydantic import PrivateAttr
from safetensors import safe_open
from safetensors.torch import save

from llmtune.files import write_bytes
from llmtune.monitor import Bar, Monitor

# Up to so many elements in a block of columns, one thread is enough.
ONE_THREAD_ELEMENTS = 1 << 20
_PLAINLY = "rounded_plainly"  # in a finished layer's metadata: names, as JSON
_PARTS = ("weight", "weight_scale", "weight_zero_point")


def _exact_in_fp16(qparams: dict[str, Any], args: Any) -> dict[str, Any]:
    """Keep so few bits of a scale that it is exact in bf16 (8 significant bits), and of an asymmetric one of up to 4
    bits that offset = zero point × scale is exact in fp16 too (11), as GGUF's Q4_1 stores it: 11 less the bits of the
    zero point. No GGUF format takes wider asymmetric codes."""
    keep = 8 if args.symmetric or args.num_bits > 4 else min(8, 11 - args.num_bits)
    mantissa, exponent = torch.frexp(qparams["scale"].float())
    rounded = torch.ldexp(torch.round(mantissa * 2**keep) / 2**keep, exponent)
    qparams["scale"] = rounded.to(qparams["scale"].dtype)
    return qparams


@Observer.register("llmtune_largest")
class LargestWeight(MemorylessMinMaxObserver):
    """The scale from a group's largest weight."""

    def get_qparams(self) -> dict[str, Any]:
        """Scale and zero point of each group."""
        return _exact_in_fp16(super().get_qparams(), self.args)


@Observer.register("llmtune_search")
class LeastError(MemorylessMSEObserver):
    """The scale with the least squared error of a group's weights."""

    def get_qparams(self) -> dict[str, Any]:
        """Scale and zero point of each group."""
        return _exact_in_fp16(super().get_qparams(), self.args)


@Observer.register("llmtune_weighted_search")
class LeastWeightedError(IMatrixMSEObserver):
    """The scale with the least squared error, each input weighted by its mean square in the calibration text."""

    def get_qparams(self) -> dict[str, Any]:
        """Scale and zero point of each group."""
        return _exact_in_fp16(super().get_qparams(), self.args)


def rounding_modifier(scheme: dict[str, Any], ignore: list[str]) -> QuantizationModifier:
    """Round to nearest under a scheme; needs no data."""
    return QuantizationModifier(config_groups={"group_0": scheme}, ignore=ignore)


class ResumableGPTQ(GPTQModifier):
    """GPTQ with three additions: progress and stops from a monitor, each finished layer kept on disk, and one Hessian
    for all linears that read the same input (q, k, v; gate, up)."""

    _monitor: Monitor = PrivateAttr(default_factory=Monitor)
    _bar: Bar = PrivateAttr(default_factory=Bar)
    _work: Path | None = PrivateAttr(default=None)
    _layer: int = PrivateAttr(default=0)
    _plainly: list[str] = PrivateAttr(default_factory=list)
    _last: tuple[torch.Tensor, torch.nn.Module] | None = PrivateAttr(default=None)

    def guide(self, monitor: Monitor, bar: Bar, work: Path | None) -> None:
        """Who is told, and where finished layers are kept (None: nowhere)."""
        self._monitor, self._bar, self._work = monitor, bar, work

    @property
    def rounded_plainly(self) -> list[str]:
        """Names of the linears that GPTQ could not fit; the library's own list is empty once it has finished."""
        return list(self._plainly)

    def calibrate_module(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        """Add one row's inputs (1, T, in) to the Hessian of a linear; skipped for layers that are finished already."""
        self._monitor.safe_point()
        if self._finished() is not None:
            return
        if self._last is not None and self._last[0] is args[0] and self._last[1] in self._num_samples:
            leader = self._last[1]
            self._hessians[module], self._num_samples[module] = self._hessians[leader], self._num_samples[leader]
            return
        self._last = (args[0], module)
        super().calibrate_module(module, args, _output)

    def on_sequential_epoch_end(self, state: Any, event: Any, modules: list[torch.nn.Module], **kwargs: Any) -> None:
        """Round one layer's linears, or take them from the folder of finished layers."""
        self._last = None
        finished = self._finished()
        rounded = [module for module in modules if module in self._module_names]
        if finished is not None:
            self._restore(rounded, finished)
        else:
            before = len(self._rtn_fallback_module_names)
            super().on_sequential_epoch_end(state, event, modules, **kwargs)
            plainly = self._rtn_fallback_module_names[before:]
            self._plainly += plainly
            if self._work is not None and rounded:
                write_bytes(self._file(), save(self._tensors(rounded), {_PLAINLY: json.dumps(plainly)}))
        self._layer += 1
        self._bar.advance(len(rounded))
        self._monitor.safe_point()

    def compress_modules(self) -> None:
        """Round the calibrated linears; small ones on one CPU thread.

        GPTQ goes column by column, some ten tiny kernels each. With several threads every kernel ends in a barrier,
        and on a machine that does other work too those waits take most of the time. Which way is taken depends on the
        shapes alone, so the result does not depend on the load."""
        small = all(
            module.weight.device.type == "cpu" and module.weight.shape[0] * self.block_size <= ONE_THREAD_ELEMENTS
            for module in self._num_samples
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if small else threads)
        try:
            super().compress_modules()
        finally:
            torch.set_num_threads(threads)

    def _file(self) -> Path:
        assert self._work is not None
        return self._work / f"layer-{self._layer:04d}.safetensors"

    def _finished(self) -> Path | None:
        return self._file() if self._work is not None and self._file().exists() else None

    def _tensors(self, modules: list[torch.nn.Module]) -> dict[str, torch.Tensor]:
        return {
            f"{self._module_names[module]}.{part}": getattr(module, part).detach().cpu().contiguous()
            for module in modules
            for part in _PARTS
            if hasattr(module, part)
        }

    def _restore(self, modules: list[torch.nn.Module], file: Path) -> None:
        with safe_open(file, framework="pt") as kept:
            self._plainly += json.loads(kept.metadata()[_PLAINLY])
            for module in modules:
                for part in _PARTS:
                    if hasattr(module, part):
                        tensor = kept.get_tensor(f"{self._module_names[module]}.{part}")
                        update_offload_parameter(module, part, tensor)  # on a GPU machine the module only lends it

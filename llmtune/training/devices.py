"""The processes and devices that train together: started once, asked for sums, ended properly."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from llmtune.errors import CannotRunHere
from llmtune.heap import keep_freed_memory
from llmtune.machine import cpu_threads

# Kinds of launch, in accelerate's words; MULTI_CPU are ranks that torchrun started, or FSDP's where there is no GPU.
SUPPORTED = ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED", "FSDP")
# One rank may tokenize a large corpus while the others wait for it.
WAIT = timedelta(days=2)


@dataclass(frozen=True)
class Devices:
    """What Accelerate found: one process, or several ranks that were started together."""

    accelerator: Any
    device: torch.device
    rank: int
    world: int

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes files and talks."""
        return self.rank == 0

    @property
    def zero_stage(self) -> int | None:
        """Stage of DeepSpeed's ZeRO, None without DeepSpeed."""
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        return None if plugin is None else int(plugin.zero_stage)

    @property
    def fsdp(self) -> bool:
        """Whether the launch asks for FSDP, and there are ranks to spread weights over."""
        return _asked_for("FSDP")

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sums over all ranks, in fp64, the same on each."""
        if self.world == 1:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Let go of the model, which Accelerate holds on to, and leave the others: ends the process group (a rank that
        just exits can abort)."""
        self.accelerator.free_memory()
        if self.world > 1:
            self.accelerator.end_training()


def start(device: str, *, batch_rows: int, micro_batch: int, clip: float) -> Devices:
    """Join the ranks of the launch (or start alone).

    device: auto, cpu or cuda
    batch_rows, micro_batch, clip: rows of a step and of a micro-batch, and the largest gradient norm, for DeepSpeed

    Mixed precision is ours (autocast around the objective, fp32 weights), whatever the launch configuration says, so
    that one process and many compute the same.
    Raises CannotRunHere for cuda on a machine without, and for launches that are not SUPPORTED.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
    from accelerate.state import AcceleratorState

    if device == "cuda" and not torch.cuda.is_available():
        raise CannotRunHere("device: cuda, but torch sees no CUDA device here", fix="set device: auto or cpu")
    cpu = device == "cpu" or not torch.cuda.is_available()
    AcceleratorState._reset_state(reset_partial_state=False)  # of an earlier training in this process
    if PartialState._shared_state and (PartialState().device.type == "cpu") != cpu:
        PartialState._reset_state()
    with_deepspeed = _asked_for("DEEPSPEED")
    if with_deepspeed and cpu:
        _spare_the_compiler()
    # Under DeepSpeed on CPU, accelerate only sees the ranks when this exists before Accelerator().
    ranks = PartialState(cpu=cpu, timeout=WAIT).num_processes
    accumulation = math.ceil(math.ceil(batch_rows / ranks) / micro_batch)
    if _asked_for("FSDP"):
        if os.environ.get("FSDP_VERSION") != "2":
            raise CannotRunHere("training under FSDP 1 is not supported", fix="set fsdp_version: 2 in the launch file")
        # Or transformers would load empty weights on all ranks but the first, to be filled by accelerate.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        if ranks == 1:  # nothing to spread over; accelerate would not place the model on its GPU
            os.environ["ACCELERATE_USE_FSDP"] = "false"
    accelerator = Accelerator(
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],  # or gradients stand twice
        mixed_precision="no",
        cpu=cpu and not with_deepspeed,
        gradient_accumulation_steps=accumulation if with_deepspeed else 1,
    )
    if accelerator.distributed_type.value not in SUPPORTED:
        raise CannotRunHere(
            f"training under accelerate's {accelerator.distributed_type.value} is not supported",
            fix="launch with one of accelerate_configs/: one process, DDP, FSDP2 or DeepSpeed ZeRO",
        )
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()  # or transformers would load every model, also the one to save, as ZeRO-3 shards
        config = plugin.deepspeed_config
        config["train_micro_batch_size_per_gpu"] = micro_batch
        config["gradient_accumulation_steps"] = accumulation
        config["gradient_clipping"] = clip
        config["steps_per_print"] = 1 << 40
        # Offloaded or not, torch's AdamW: DeepSpeed's own would be compiled first, and round otherwise.
        config["zero_force_ds_cpu_optimizer"] = False
        for format_ in ("bf16", "fp16"):
            config.pop(format_, None)
    set_threads()
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return Devices(accelerator, accelerator.device, accelerator.process_index, accelerator.num_processes)


def _asked_for(library: str) -> bool:
    """Whether `accelerate launch` started this process for DEEPSPEED or FSDP."""
    return os.environ.get(f"ACCELERATE_USE_{library}", "false").lower() == "true"


def _spare_the_compiler() -> None:
    """DeepSpeed builds an all-reduce for inference when ranks join on CPUs, a minute of C++ the first time; nothing of
    a training calls it."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def set_threads() -> None:
    """Share the cores among the ranks of this machine (`accelerate launch` would leave each of them one). Another
    number of threads gives other last bits."""
    torch.set_num_threads(cpu_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))

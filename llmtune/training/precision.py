"""Which number formats can be trained in here. Imports no torch: plans ask the same questions as runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmtune.errors import CannotRunHere
from llmtune.machine import Accelerator, Machine, this_machine

if TYPE_CHECKING:
    from llmtune.training.devices import Devices

TURING, AMPERE = (7, 0), (8, 0)


def chosen_precision(precision: str, device: str, machine: Machine) -> str:
    """`auto` as a format: bf16 where `device` (auto, cpu, cuda) of this machine computes in it, else fp32; another
    precision as it is."""
    if precision != "auto":
        return precision
    gpus = machine.accelerators if device != "cpu" else ()
    has_bf16 = (
        all(gpu.capability >= AMPERE or gpu.capability == (0, 0) for gpu in gpus) if gpus else machine.cpu_has_bf16
    )
    return "bf16" if has_bf16 else "fp32"


def precision_problem(precision: str, device: str, machine: Machine, *, spread: bool = False) -> str | None:
    """Why `precision` cannot be used on `device` (auto, cpu, cuda) of this machine, as a sentence; None when it can.

    spread: whether DeepSpeed or FSDP divides the training among the ranks, each of which would scale losses its own way
    """
    gpus = machine.accelerators if device != "cpu" else ()
    if device == "cuda" and not gpus:
        return "device: cuda is asked for, but this machine has no CUDA device; set device: auto or cpu"
    if precision == "fp8":
        where = "a CPU has no fp8 arithmetic" if not gpus else "fp8 training is not built in"
        return f"precision: fp8 cannot be trained in ({where}); use bf16"
    if precision == "fp16":
        if not gpus:
            return "precision: fp16 needs a GPU (on a CPU it is slower than fp32 and overflows); use bf16 or fp32"
        if spread:
            return "precision: fp16 does not go with a launch by DeepSpeed or FSDP here; use bf16 or fp32"
    if precision == "bf16" and gpus and any((0, 0) < gpu.capability < AMPERE for gpu in gpus):
        return f"precision: bf16 needs an Ampere GPU or newer, {gpus[0].name} is older; use fp16 or fp32"
    return None


def precision_note(precision: str, device: str, machine: Machine) -> str | None:
    """What is worth knowing about `precision` here."""
    on_cpu = device == "cpu" or not machine.accelerators
    if precision == "auto" and not on_cpu and chosen_precision(precision, device, machine) == "fp32":
        return "this GPU has no bf16 arithmetic: trained in fp32; precision: fp16 is faster"
    if on_cpu and not machine.cpu_has_bf16:
        if precision == "bf16":
            slower = 24 if machine.has_half_vectors else 3
            return (
                f"this CPU has no bf16 arithmetic: bf16 is {slower} times slower than fp32; precision: auto takes fp32"
            )
        if precision == "auto":
            return "this CPU has no bf16 arithmetic: trained in fp32"
    return None


def precision_on(devices: Devices, precision: str) -> str:
    """The number format to train in on these devices. Raises CannotRunHere for one that they cannot train in."""
    machine = this_machine()
    if devices.device.type == "cuda":  # this rank's own, of perhaps several kinds
        import torch

        found = torch.cuda.get_device_properties(devices.device)
        gpu = Accelerator(found.name, found.total_memory, torch.cuda.get_device_capability(devices.device))
        machine = replace(machine, accelerators=(gpu,))
    kind = devices.device.type
    problem = precision_problem(precision, kind, machine, spread=devices.zero_stage is not None or devices.fsdp)
    if problem:
        raise CannotRunHere(problem)
    return chosen_precision(precision, kind, machine)

"""What this machine can do for llmtune and what it cannot, and why: plain facts in, sentences out."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import requires

from llmtune.machine import Machine, this_machine
from llmtune.run.environment import installed_version

# extra → what it makes possible
ENABLES = {
    "corpus": "HTML, PDF and Office documents, near-duplicates",
    "augment": "back-translation",
    "quantize": "8, 4 and 3 bits by group: GPTQ and rounding",
    "bitsandbytes": "QLoRA; NF4 and int8",
    "gguf": "GGUF export and its verification, chat with GGUF files",
    "deepspeed": "ZeRO: training over several devices with sharded state",
    "search": "hyper-parameter search",
    "annotate": "label errors, what to label next",
    "ray": "corpora made on a Ray cluster",
    "remote": "sources at s3://, gs://, https:// and hf://",
}


@dataclass(frozen=True)
class Facts:
    """What was found.

    torch_devices: accelerators torch itself can use ("cuda", "mps", …); torch: its version
    tools: programs on the PATH, of those asked for; modules: importable modules, of those asked for
    missing: extra → distributions of it that are not installed
    """

    machine: Machine
    torch: str | None
    torch_devices: tuple[str, ...]
    tools: frozenset[str]
    modules: frozenset[str]
    missing: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Limit:
    """One thing that will not work here, or not well; `why` names the cause, `fix` what would change it, if that is
    known."""

    what: str
    why: str
    fix: str = ""


def find_facts() -> Facts:
    """Look at the machine and the environment. Imports torch (about a second)."""
    return Facts(
        machine=this_machine(),
        torch=installed_version("torch"),
        torch_devices=_torch_devices(),
        tools=frozenset(tool for tool in ("g++", "nvcc", "git") if shutil.which(tool)),
        modules=frozenset(name for name in ("flash_attn", "triton") if importlib.util.find_spec(name)),
        missing=missing_by_extra(),
    )


def missing_by_extra() -> dict[str, tuple[str, ...]]:
    """For each extra of the installed llmtune, the distributions that are not there; from its own metadata."""
    wanted: dict[str, list[str]] = {extra: [] for extra in ENABLES}
    for line in requires("llmtune") or []:
        name, _, marker = line.partition(";")
        found = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        distribution = re.match(r"[\w.-]+", name.strip())
        if found and distribution and found[1] in wanted:
            wanted[found[1]].append(distribution[0])
    return {extra: tuple(name for name in names if installed_version(name) is None) for extra, names in wanted.items()}


def limits(facts: Facts) -> list[Limit]:
    """Everything that will not work here, the most far-reaching first."""
    checks: tuple[Callable[[Facts], list[Limit]], ...] = (_accelerator, _number_formats, _attention, _tools, _extras)
    return [limit for check in checks for limit in check(facts)]


def _torch_devices() -> tuple[str, ...]:
    try:
        import torch
    except ImportError:
        return ()
    found = ["cuda"] if torch.cuda.is_available() else []
    return tuple(found + (["mps"] if torch.backends.mps.is_available() else []))


def _accelerator(facts: Facts) -> list[Limit]:
    if facts.torch is None:
        return [Limit("everything", "torch is not installed", "pip install llmtune")]
    if facts.machine.accelerators and "cuda" not in facts.torch_devices:
        build = "a build of torch for CPU only" if "+cpu" in facts.torch else "torch cannot use it (driver too old?)"
        return [Limit("training on the GPU", f"there is one, but {build} ({facts.torch})", "install a CUDA torch")]
    if not facts.torch_devices:
        why = "no GPU: training works on the CPU, models up to about 1 B parameters in reasonable time"
        return [Limit("recipes that ask for CUDA", why)]
    return []


def _number_formats(facts: Facts) -> list[Limit]:
    found = []
    capability = max((gpu.capability for gpu in facts.machine.accelerators), default=(0, 0))
    cuda = "cuda" in facts.torch_devices
    if capability < (8, 9) or not cuda:
        have = f"this one has {capability[0]}.{capability[1]}" if cuda else "there is none"
        found.append(Limit("fp8", f"needs a CUDA GPU of compute capability 8.9 or more; {have}"))
    if not facts.torch_devices:
        found.append(Limit("fp16 training", "needs a GPU; on a CPU train in bf16 or fp32"))
        if not facts.machine.cpu_has_bf16:
            why = "this CPU has no bf16 instructions; `precision: auto` takes fp32, which is faster here"
            found.append(Limit("fast bf16", why))
    elif cuda and capability < (8, 0):
        found.append(Limit("fast bf16", f"needs compute capability 8.0; this GPU has {capability[0]}.{capability[1]}"))
    return found


def _attention(facts: Facts) -> list[Limit]:
    if "cuda" not in facts.torch_devices:
        return [Limit("FlashAttention", "needs a CUDA GPU; torch's own attention is used")]
    if "flash_attn" not in facts.modules:
        return [Limit("FlashAttention", "flash-attn is not installed; torch's own attention is used", "optional")]
    return []


def _tools(facts: Facts) -> list[Limit]:
    found = []
    if "g++" not in facts.tools and "cuda" not in facts.torch_devices:
        found.append(Limit("torch.compile", "needs a C++ compiler here, and g++ is not on the PATH", "install g++"))
    if "cuda" in facts.torch_devices and "triton" not in facts.modules:
        found.append(Limit("torch.compile", "needs triton on a GPU", "pip install triton"))
    return found


def _extras(facts: Facts) -> list[Limit]:
    return [
        Limit(ENABLES[extra], f"not installed: {', '.join(names)}", f"pip install 'llmtune[{extra}]'")
        for extra, names in facts.missing.items()
        if names
    ]


def hub_access() -> str:
    """How models of the hub would be reached, from the environment alone."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "offline (HF_HUB_OFFLINE=1)"
    token = "with HF_TOKEN" if os.environ.get("HF_TOKEN") else "without a token (set HF_TOKEN for gated models)"
    return f"{os.environ.get('HF_ENDPOINT', 'huggingface.co')}, {token}"

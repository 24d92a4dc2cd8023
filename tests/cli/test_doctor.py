"""What the doctor says of machines it is not on."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmtune.cli.checks import Facts, limits, missing_by_extra
from llmtune.machine import Accelerator, Machine

ROOT = Path(__file__).parents[2]
LAPTOP = Facts(
    machine=Machine(cores=4, memory=16 << 30, flags=frozenset({"avx2"}), accelerators=()),
    torch="2.11.0",
    torch_devices=(),
    tools=frozenset({"g++"}),
    modules=frozenset(),
    missing={"corpus": (), "deepspeed": ()},
)
H100 = replace(
    LAPTOP,
    machine=Machine(16, 128 << 30, frozenset({"avx512_bf16"}), (Accelerator("H100", 80 << 30, (9, 0)),)),
    torch_devices=("cuda",),
    modules=frozenset({"flash_attn", "triton"}),
)


def told(facts: Facts) -> dict[str, str]:
    return {limit.what: limit.why for limit in limits(facts)}


def test_nothing_is_wrong_with_a_complete_gpu_machine() -> None:
    assert told(H100) == {}


def test_a_laptop_without_a_gpu() -> None:
    assert set(told(LAPTOP)) == {"recipes that ask for CUDA", "fp8", "fp16 training", "fast bf16", "FlashAttention"}
    fast = replace(LAPTOP, machine=replace(LAPTOP.machine, flags=frozenset({"avx512_bf16"})))
    assert "fast bf16" not in told(fast)


def test_an_older_gpu_has_no_fp8_and_a_still_older_one_no_bf16() -> None:
    a100 = replace(H100, machine=replace(H100.machine, accelerators=(Accelerator("A100", 1, (8, 0)),)))
    assert set(told(a100)) == {"fp8"}
    assert "this one has 8.0" in told(a100)["fp8"]
    t4 = replace(H100, machine=replace(H100.machine, accelerators=(Accelerator("T4", 1, (7, 5)),)))
    assert set(told(t4)) == {"fp8", "fast bf16"}


def test_a_gpu_that_torch_was_not_built_for() -> None:
    found = told(replace(H100, torch="2.13.0+cpu", torch_devices=()))
    assert "a build of torch for CPU only" in found["training on the GPU"]


def test_missing_tools_and_extras_name_what_they_stop() -> None:
    bare = replace(LAPTOP, tools=frozenset(), missing={"gguf": ("xllamacpp",), "deepspeed": ()})
    found = {limit.what: limit for limit in limits(bare)}
    assert "torch.compile" in found
    gguf = next(limit for what, limit in found.items() if "GGUF" in what)
    assert gguf.why == "not installed: xllamacpp"
    assert gguf.fix == "pip install 'llmtune[gguf]'"


def test_extras_are_read_from_the_metadata_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(missing_by_extra()) == set(extras) - {"all", "dev"}


def test_the_command(llmtune: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = llmtune("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("This machine", "Versions", "Extras", "torch", "memory", "Will not work here"):
        assert word in done.stdout

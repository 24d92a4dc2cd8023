"""GPTQ's step over one block of 128 columns on the CPU: ours beside llmcompressor's own, in turn, on one thread.

    python benchmarks/gptq_step.py [--rounds 5]

Two shapes: SmolLM2-135M's square and its widest linear; 4 bits, groups of 32, asymmetric.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.utils.impl_backend import ImplBackend

import llmtune.compress.block_update  # noqa: F401 - registers our step, and the library's

COLUMNS, GROUP = 128, 32
STEPS = {"llmcompressor": "gptq_block_update", "ours": "gptq_block_update_on_cpu"}


def seconds(step: str, rows: int) -> float:
    """Of one block with `rows` rows; random weights, the same each time."""
    torch.manual_seed(0)
    args = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=GROUP)
    weights = torch.randn(1, rows, COLUMNS)
    scale = weights.unflatten(-1, (-1, GROUP)).abs().amax(-1) * 2 / 15
    filled = [torch.zeros_like(weights) for _ in range(3)]
    began = time.perf_counter()
    ImplBackend.call(
        step,
        weights,
        torch.eye(COLUMNS)[None],
        *filled,
        scale=scale,
        zero_point=torch.zeros(scale.shape, dtype=torch.int8),
        global_scale=None,
        g_idx=torch.arange(COLUMNS, dtype=torch.int) // GROUP,
        quant_args=args,
        i1=0,
    )
    return time.perf_counter() - began


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for rows in (576, 1536):
        found: dict[str, list[float]] = {name: [] for name in STEPS}
        for _ in range(rounds + 1):  # the first warms up
            for name, step in STEPS.items():
                found[name].append(seconds(step, rows))
        theirs, ours = (statistics.median(times[1:]) for times in found.values())
        print(f"{rows:5} rows: llmcompressor {1e3 * theirs:6.1f} ms, ours {1e3 * ours:6.1f} ms, {theirs / ours:.1f} x")


if __name__ == "__main__":
    main()

"""A training step of a split mixture of experts beside that of the dense model that it was made from.

    python benchmarks/moe.py                                # SmolLM2's shape, half of the feed-forward part active
    python benchmarks/moe.py --experts 12 --active 4 --shared 4 --implementation grouped_mm

Forward, backward and update of all weights: 4 rows of 512 tokens, bf16 autocast over fp32 weights. Random weights of
SmolLM2-135M's shape: time does not depend on them, but for the routers, which choose as evenly as at the start of a
training. Both models live in one process and take turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, NamedTuple

import torch

from llmtune.heap import keep_freed_memory
from llmtune.models.moe.target import Layout, moe_config
from llmtune.models.shape import ModelShape
from llmtune.training.devices import set_threads
from llmtune.training.experts import use_trained_experts
from llmtune.training.objective import NextToken, Objective
from llmtune.training.router_losses import RouterLosses

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=6)
    parser.add_argument("--active", type=int, default=2)
    parser.add_argument("--shared", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each model, after one that does not count")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument(
        "--implementation", default="llmtune", help="of the experts: llmtune, or one of transformers (grouped_mm)"
    )
    asked = parser.parse_args()
    set_threads()
    keep_freed_memory()  # as a training does
    torch.manual_seed(0)
    dense_config = SMOLLM2 | {"num_hidden_layers": asked.layers}
    layout = Layout("split", asked.experts, asked.active, asked.shared)
    dense = Model(dense_config, NextToken())
    mixture = Model(moe_config(ModelShape(dense_config, {}, 0), layout), NextToken())
    if asked.implementation == "llmtune":
        use_trained_experts(mixture.model)
    else:
        mixture.model.set_experts_implementation(asked.implementation)
    mixture.objective = RouterLosses(NextToken(), mixture.model, balance=0.01, z=0.001)
    batch = {"input_ids": torch.randint(0, 49152, (4, 512))}
    batch["labels"] = batch["input_ids"]
    times: dict[str, list[Times]] = {"dense": [], "mixture": []}
    for round_ in range(asked.rounds + 1):
        for name, model in (("dense", dense), ("mixture", mixture)):
            took = model.step(batch)
            if round_:
                times[name].append(took)
    for name, took_each in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*took_each, strict=True))
        print(f"{name:8} {wall:7.3f} s a step, {cpu:7.3f} s of processors")
    for place, what in enumerate(("time", "processors' time")):
        ratios = [two[place] / one[place] for one, two in zip(times["dense"], times["mixture"], strict=True)]
        print(f"mixture / dense, {what}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


class Times(NamedTuple):
    """Seconds on the clock, and of all processors for this process: the steadier one where the machine is busy."""

    wall: float
    cpu: float


class Model:
    """A model with its optimizer and objective."""

    def __init__(self, config: dict[str, Any], objective: Objective) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        fields = dict(config)
        self.model = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields)).train()
        for name, parameter in self.model.named_parameters():
            if name.endswith("gate.weight"):
                torch.nn.init.normal_(parameter, std=0.02)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.objective = objective

    def step(self, batch: dict[str, torch.Tensor]) -> Times:
        """What one step takes."""
        began, busy = time.monotonic(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            outcome = self.objective(self.model, batch)
        (outcome.loss / outcome.weight).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Times(time.monotonic() - began, time.process_time() - busy)


if __name__ == "__main__":
    main()

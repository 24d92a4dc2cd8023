"""What masking costs: collating a micro-batch with it beside without, and beside a training step, in one process.

    python benchmarks/masking.py [--rounds 30] [--steps 3]

Micro-batches of 4 × 512 tokens. Causal: SmolLM2-135M with LoRA, rank 16, in bf16, forward and backward. mlm: a BERT of
bert-base's size with random weights, all of them trained. The times of a collation are medians; what masking adds is
given as part of the step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from llmtune.models.adapters import AdapterSettings, attach
from llmtune.models.find import resolve
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.reference import ModelReference
from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row
from llmtune.training.masking import Masker, mask_token, special_ids
from llmtune.training.objective import MaskedToken, NextToken, Objective
from llmtune.training.settings import MaskingSettings

ROWS, TOKENS, RATIO_WANTED = 4, 512, 0.02


def main() -> None:
    """Print both kinds; exit with 1 when masking takes more than 2 % of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4")
    options = parser.parse_args()
    parts = [_measure(*case, options) for case in (_causal(options.model), _mlm())]
    raise SystemExit(max(parts) > RATIO_WANTED)


def _causal(name: str) -> tuple[str, Any, Collator, Objective]:
    folder = resolve(ModelReference.parse(name))
    tokenizer = load_tokenizer(folder)
    model = attach(load_model(folder, "bfloat16"), AdapterSettings(rank=16), seed=0).train()
    size = model.get_base_model().config.vocab_size
    masker = _masker("causal", size, mask_token(None, tokenizer, size), special_ids(tokenizer))
    return "causal, SmolLM2-135M, LoRA", model, Collator(0, masker=masker), NextToken()


def _mlm() -> tuple[str, Any, Collator, Objective]:
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig()).train()
    masker = _masker("mlm", model.config.vocab_size, 103, [0, 100, 101, 102, 103])
    return "mlm, BERT of 110 M, all weights", model, Collator(0, "blocks", masker=masker), MaskedToken()


def _masker(kind: Any, size: int, token: int, special: list[int]) -> Masker:
    is_special = np.isin(np.arange(size), special)
    return Masker(MaskingSettings(type=kind), 0, token, is_special, np.flatnonzero(~is_special))


def _measure(name: str, model: Any, collate: Collator, objective: Objective, options: argparse.Namespace) -> float:
    """Part of a step that masking takes."""
    draw = np.random.default_rng(0)
    assert collate.masker is not None
    rows = [
        Row(
            draw.choice(collate.masker.ordinary, TOKENS).astype(np.int32),
            np.repeat(np.arange(4, dtype=np.int32), TOKENS // 4),
            np.arange(TOKENS) % (TOKENS // 4) > 0,
            draw.random(TOKENS) < 0.7,
        )
        for _ in range(ROWS)
    ]
    plain = replace(collate, masker=None)
    with_masks, without = [], []
    for epoch in range(options.rounds + 1):  # the first warms up
        samples = [Sample(epoch, index, row) for index, row in enumerate(rows)]
        with_masks.append(_seconds(lambda s=samples: collate(s)))  # type: ignore[misc]
        without.append(_seconds(lambda s=samples: plain(s)))  # type: ignore[misc]
    batch = collate([Sample(0, index, row) for index, row in enumerate(rows)])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(model, batch).loss
        loss.backward()

    times = [_seconds(step) for _ in range(options.steps + 1)][1:]
    added = statistics.median(with_masks[1:]) - statistics.median(without[1:])
    part = added / min(times)
    print(
        f"{name}: collation {1e3 * statistics.median(without[1:]):.2f} ms, with masks "
        f"{1e3 * statistics.median(with_masks[1:]):.2f} ms; step {min(times):.2f} s; masking takes {part:.4%} of it",
        flush=True,
    )
    return part


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

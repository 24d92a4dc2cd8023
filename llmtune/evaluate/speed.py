"""How fast a model reads and writes, one conversation at a time: tokens a second, the median of three."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

PROMPT, NEW, REPEATS = 256, 24, 3  # tokens of the prompt, tokens generated, measurements


@torch.inference_mode()
def measure_speed(model: Any) -> tuple[float, float]:
    """(prefill, decode) in tokens a second of a transformers model: batch 1, greedy, cached, after one warm-up."""
    vocabulary = model.get_input_embeddings().num_embeddings
    limit = getattr(model.config, "max_position_embeddings", None) or PROMPT + NEW
    prompt_tokens = max(1, min(PROMPT, limit - NEW))
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, vocabulary, (1, prompt_tokens), generator=generator).to(model.device)
    measured = []
    for repeat in range(REPEATS + 1):
        began = time.perf_counter()
        output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        token = output.logits[:, -1:].argmax(-1)
        _wait(model)
        read = time.perf_counter()
        for _ in range(NEW):
            output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
            token = output.logits[:, -1:].argmax(-1)
        _wait(model)
        end = time.perf_counter()
        if repeat:  # the first warms up
            measured.append((prompt_tokens / (read - began), NEW / (end - read)))
    return middle(measured)


def _wait(model: Any) -> None:
    """Let queued work end, so that time is counted where it is spent."""
    if model.device.type != "cpu":
        torch.accelerator.synchronize()


def middle(measured: list[tuple[float, float]]) -> tuple[float, float]:
    """The medians of pairs (prefill, decode)."""
    return statistics.median(p for p, _ in measured), statistics.median(d for _, d in measured)

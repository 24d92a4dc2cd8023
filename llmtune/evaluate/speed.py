"""How fast a model reads and writes, one conversation at a time: tokens a second, the median of three; and the memory
that this takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmtune.machine import high_water_mark, peak_resident

PROMPT, NEW, REPEATS = 256, 24, 3  # tokens of the prompt, tokens generated, measurements


def lengths(limit: int | None) -> tuple[int, int]:
    """(prompt, new tokens) to measure with: no more in all than the `limit` positions of the model."""
    limit = limit or PROMPT + NEW
    new = max(2, min(NEW, limit // 2))
    return max(1, min(PROMPT, limit - new)), new


class _Times:
    """A streamer of `generate`: when the prompt came, when the first new token, and when the last."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, tokens: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None: ...


def measure_speed(model: Any, safe_point: Callable[[], None] | None = None) -> tuple[float, float]:
    """(prefill, decode) in tokens a second of a transformers model: batch 1, greedy, cached, after one warm-up.

    By `generate`, as users call it, so that every family's own cache is used. The first new token is prefill's."""
    from transformers import GenerationConfig

    from llmtune.evaluate.generation import generating_by
    from llmtune.evaluate.likelihood import context_limit

    prompt_tokens, new = lengths(context_limit(model))
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    prompt = torch.randint(0, vocabulary, (1, prompt_tokens), generator=generator).to(model.device)
    # No end token, so that as many tokens are generated whatever they are.
    config = GenerationConfig(max_new_tokens=new, do_sample=False, pad_token_id=0)
    measured = []
    with generating_by(model, config):
        for repeat in range(REPEATS + 1):
            if safe_point:
                safe_point()
            streamer = _Times()
            began = time.perf_counter()
            model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), streamer=streamer)
            first, last = streamer.times[1], streamer.times[-1]  # times[0]: the prompt itself
            if repeat:  # the first warms up
                measured.append((prompt_tokens / (first - began), (len(streamer.times) - 2) / (last - first)))
    return middle(measured)


def middle(measured: list[tuple[float, float]]) -> tuple[float, float]:
    """The medians of pairs (prefill, decode)."""
    return statistics.median(p for p, _ in measured), statistics.median(d for _, d in measured)


def forget_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can: accelerators, Linux."""
    if torch.accelerator.is_available():
        torch.accelerator.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return  # not Linux, or not allowed: the peak then counts from the start of the process


def peak_memory() -> int:
    """Largest memory since `forget_peak_memory`, on the accelerator where there is one, in bytes."""
    if torch.accelerator.is_available():
        return int(torch.accelerator.max_memory_allocated())
    mark = high_water_mark()
    return peak_resident() if mark is None else mark

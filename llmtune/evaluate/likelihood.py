"""How likely a model finds texts: the loss of every token after a given character, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmtune.errors import LlmtuneError
from llmtune.monitor import Bar
from llmtune.training.loss import token_losses

_BATCH_TOKENS = 4096  # tokens of one batch, padding included: full speed on a CPU, little memory


@dataclass(frozen=True)
class Scored:
    """One span's losses: nats in sum, tokens that were predicted, UTF-8 bytes of those tokens' text."""

    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Span:
    """Token ids of a text, of which those from `first` on are scored, and the bytes that these stand for."""

    tokens: list[int]
    first: int
    bytes: int


def spans_of_text(text: str, tokenizer: Any, row_tokens: int) -> list[Span]:
    """A whole text in rows: every token but the first is predicted once, from those before it in its row. Each row
    begins with the last token of the row before, so that no token is left out."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    spans = []
    for start in range(0, max(len(tokens) - 1, 0), row_tokens - 1):
        row = tokens[start : start + row_tokens]
        begin = _end(offsets, start)
        end = _end(offsets, start + len(row) - 1)
        spans.append(Span(row, 1, len(text[begin:end].encode())))
    return spans


def span_after(context: str, continuation: str, tokenizer: Any) -> Span:
    """The continuation's tokens after the context: those that begin at its first character or later."""
    text = context + continuation
    encoded = tokenizer(text, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    first = next((i for i, (start, end) in enumerate(offsets) if start >= len(context) and end > start), len(tokens))
    return Span(tokens, max(first, 1), len(continuation.encode()))


def score(spans: Sequence[Span], model: Any, pad: int, bar: Bar | None = None, safe_point: Any = None) -> list[Scored]:
    """The losses of each span, in the order given; spans of like length share a batch, padded on the right."""
    order = sorted(range(len(spans)), key=lambda i: (len(spans[i].tokens), i))
    results: dict[int, Scored] = {}
    while order:
        longest = len(spans[order[-1]].tokens)
        batch = [order.pop() for _ in range(min(len(order), max(1, _BATCH_TOKENS // longest)))]
        for index, nats in zip(batch, _batch_nats([spans[i] for i in batch], longest, model, pad), strict=True):
            span = spans[index]
            results[index] = Scored(nats, len(span.tokens) - span.first, span.bytes)
        if bar:
            bar.advance(sum(len(spans[i].tokens) for i in batch))
        if safe_point:
            safe_point()
    return [results[i] for i in range(len(spans))]


def _batch_nats(spans: Sequence[Span], length: int, model: Any, pad: int) -> list[float]:
    """Summed loss of each span's scored tokens; (B,) from one forward pass over (B, length)."""
    input_ids = torch.full((len(spans), length), pad)
    mask = torch.zeros((len(spans), length), dtype=torch.long)
    scored = torch.zeros((len(spans), length - 1), dtype=torch.bool)
    for row, span in enumerate(spans):
        n = len(span.tokens)
        input_ids[row, :n] = torch.tensor(span.tokens)
        mask[row, :n] = 1
        scored[row, span.first - 1 : n - 1] = True
    device = model.device
    batch = {"input_ids": input_ids.to(device), "attention_mask": mask.to(device)}
    losses = token_losses(model, batch).cpu().double()
    sums: list[float] = (losses * scored).sum(1).tolist()
    if any(value != value for value in sums):
        raise LlmtuneError("the model's loss is not a number: its weights are damaged or overflow")
    return sums


def _end(offsets: Sequence[tuple[int, int]], index: int) -> int:
    """Character after token `index`; special tokens (offset 0, 0) at the start stand for none."""
    return int(offsets[index][1])

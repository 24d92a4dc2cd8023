"""How likely a model finds texts: the loss of every token after a given place, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.evaluate.estimate import BATCH_TOKENS
from llmtune.models.shape import context_of
from llmtune.monitor import Bar
from llmtune.training.loss import token_losses

_PADDING = 0  # any token: what stands behind a text has no part in a causal model's losses


@dataclass(frozen=True)
class Scored:
    """One span's losses: nats in sum, tokens that were predicted, UTF-8 bytes of those tokens' text."""

    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Span:
    """Token ids of a text, of which those from `first` (≥ 1) on are scored, and the bytes that these stand for.
    among: which of those from `first` on are scored; None: all."""

    tokens: list[int]
    first: int
    bytes: int
    among: tuple[bool, ...] | None = None

    @property
    def scored(self) -> int:
        """Number of tokens that are scored."""
        return len(self.tokens) - self.first if self.among is None else sum(self.among)


def context_limit(model: Any) -> int | None:
    """The most tokens the model was made for; None where its configuration names no limit."""
    return context_of(model.config.to_dict())


def spans_of_text(text: str, tokenizer: Any, row_tokens: int) -> list[Span]:
    """A whole text in rows: every token but the first is predicted once, from those before it in its row. Each row
    begins with the last token of the row before, so that no token is left out. No span where nothing is predicted.

    row_tokens: 2 or more
    """
    tokens, ends = _encode(text, tokenizer)
    spans = []
    for start in range(0, len(tokens) - 1, row_tokens - 1):
        row = tokens[start : start + row_tokens]
        last = start + len(row) - 1
        end = len(text) if last == len(tokens) - 1 else ends[last]
        spans.append(Span(row, 1, len(text[ends[start] : end].encode())))
    return spans


def encode(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a text as a model continues it: with the begin token, without an end token."""
    return _encode(text, tokenizer)[0]


def score(
    spans: Sequence[Span], model: Any, bar: Bar | None = None, safe_point: Callable[[], None] | None = None
) -> list[Scored]:
    """The losses of each span, in the order given; spans of like length share a batch, padded on the right.

    Raises BadArtifact when a loss is NaN or infinite.
    """
    order = sorted(range(len(spans)), key=lambda i: (len(spans[i].tokens), i))
    results: dict[int, Scored] = {}
    while order:
        longest = len(spans[order[-1]].tokens)
        batch = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // longest)))]
        for index, nats in zip(batch, _batch_nats([spans[i] for i in batch], longest, model), strict=True):
            span = spans[index]
            results[index] = Scored(nats, span.scored, span.bytes)
        if bar:
            bar.advance(sum(len(spans[i].tokens) for i in batch))
        if safe_point:
            safe_point()
    return [results[i] for i in range(len(spans))]


def _batch_nats(spans: Sequence[Span], length: int, model: Any) -> list[float]:
    """Summed loss of each span's scored tokens; (B,) from one forward pass over (B, length).

    No attention mask: a causal model never looks at what stands behind, and with one the padding of sliding windows
    would have nothing to attend to, which is NaN.
    """
    input_ids = torch.full((len(spans), length), _PADDING)
    scored = torch.zeros((len(spans), length - 1), dtype=torch.bool)
    for row, span in enumerate(spans):
        input_ids[row, : len(span.tokens)] = torch.tensor(span.tokens)
        among = True if span.among is None else torch.tensor(span.among)
        scored[row, span.first - 1 : len(span.tokens) - 1] = among
    losses = token_losses(model, {"input_ids": input_ids.to(model.device)}).cpu().double()
    sums: list[float] = losses.where(scored, torch.zeros((), dtype=torch.double)).sum(1).tolist()
    return finite(sums)


def finite(nats: list[float]) -> list[float]:
    """The losses themselves; raises BadArtifact when one is NaN or infinite."""
    if not all(map(math.isfinite, nats)):
        raise BadArtifact("the model's loss is NaN or infinite: its weights are damaged, or overflow its number format")
    return nats


def check_offsets(tokenizer: Any) -> None:
    """Raise CannotRunHere for a tokenizer that cannot say which text a token stands for."""
    if not tokenizer.is_fast:
        raise CannotRunHere(
            f"{type(tokenizer).__name__} cannot say which characters a token stands for",
            fix="use a model with a tokenizer.json",
        )


def _encode(text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids, begin token included where the tokenizer sets one, and the character behind each (never going back).

    Tokens that a tokenizer sets at the end are left out: they stand for no text.
    """
    check_offsets(tokenizer)
    # as in training: the name of a control token that a document writes is text
    encoded = tokenizer(text, return_offsets_mapping=True, split_special_tokens=True, verbose=False)
    tokens, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    count = len(tokens)
    while count and offsets[count - 1][0] == offsets[count - 1][1]:
        count -= 1
    ends, furthest = [], 0
    for _, end in offsets[:count]:
        furthest = max(furthest, int(end))
        ends.append(furthest)
    return tokens[:count], ends

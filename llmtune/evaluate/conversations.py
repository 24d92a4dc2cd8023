"""Conversations as spans to score: the answers, through the chat template, as training sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmtune.corpus.store import Document
from llmtune.evaluate.likelihood import Span
from llmtune.training.chat_template import tokenise_conversations


def spans_of_answers(document: Document, tokenizer: Any, row_tokens: int) -> list[Span]:
    """Every token of every answer, its end token included, is scored once, from what stands before it in the
    conversation, as far as `row_tokens` (2 or more) reach back. None where there is no answer.

    Raises LlmtuneError when the chat template refuses the conversation or the tokenizer is a slow one.
    """
    ((tokens, answers),) = tokenise_conversations([document], tokenizer)
    edges = np.flatnonzero(np.diff(answers.astype(np.int8), prepend=0, append=0))
    spans = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        # An answer longer than half a row in pieces, so that each token has half a row before it.
        step = max(1, row_tokens // 2)
        for first in range(max(start, 1), end, step):
            last = min(first + step, end)
            begin = max(0, last - row_tokens)
            size = len(tokenizer.decode(tokens[first:last], skip_special_tokens=True).encode())
            spans.append(Span(tokens[begin:last], first - begin, size))
    return spans

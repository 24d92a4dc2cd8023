"""Conversations as spans to score: the answers, through the chat template, as training sees them."""

from __future__ import annotations

from typing import Any

from llmtune.corpus.store import Document
from llmtune.evaluate.likelihood import Span, check_offsets
from llmtune.training.chat_template import Conversation, encode_conversations


def spans_of_answers(document: Document, tokenizer: Any, row_tokens: int) -> list[Span]:
    """The conversation in rows of `row_tokens` (2 or more) that overlap by half, so that each token is read twice at
    most; every token of every answer, its end token included, is scored once. No row where nothing is scored.

    Raises LlmtuneError when the chat template refuses the conversation, CannotRunHere for a slow tokenizer.
    """
    check_offsets(tokenizer)
    (conversation,) = encode_conversations([document], tokenizer)
    sizes = _bytes_of_tokens(conversation, set(tokenizer.all_special_ids))
    tokens, answers = conversation.tokens, conversation.answers
    spans, done, end = [], 1, min(row_tokens, len(tokens))
    while done < end:
        begin, scored = max(0, end - row_tokens), answers[done:end]
        if scored.any():
            size = sum(size for size, one in zip(sizes[done:end], scored, strict=True) if one)
            spans.append(Span(tokens[begin:end], done - begin, size, tuple(scored.tolist())))
        done, end = end, min(end + row_tokens // 2, len(tokens))
    return spans


def _bytes_of_tokens(conversation: Conversation, control: set[int]) -> list[int]:
    """UTF-8 bytes of the text that each token stands for; none for control tokens, whose names differ by model."""
    starts = [0, *conversation.ends[:-1].tolist()]
    pieces = zip(conversation.tokens, starts, conversation.ends.tolist(), strict=True)
    return [0 if token in control else len(conversation.text[start:end].encode()) for token, start, end in pieces]

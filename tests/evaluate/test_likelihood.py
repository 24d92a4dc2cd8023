"""Losses of texts and continuations against the plain computation from full logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from llmtune.errors import BadArtifact, CannotRunHere
from llmtune.evaluate.likelihood import Span, score, spans_of_text
from tests.evaluate.conftest import documents
from tests.tiny import tiny_model, tiny_tokenizer

TEXT = documents(1, 700)[0].text or ""


def naive(model: Any, tokens: list[int], first: int) -> float:
    """Nats of tokens[first:], from the logits of the whole model, one text at a time."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0].float()
    found = logits[:-1].log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    return float(-found[first - 1 :].double().sum())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "gemma3_text"])
def test_losses_equal_the_full_logits_whatever_shares_the_batch(family: str) -> None:
    """Texts of 5 to 200 tokens in one batch: padding far beyond a sliding window of 24 changes nothing."""
    model = tiny_model(family)
    tokens = tiny_tokenizer()(TEXT)["input_ids"]
    spans = [Span(tokens[:n], first, n) for n, first in ((200, 1), (5, 1), (60, 31), (2, 1), (130, 129))]
    for span, found in zip(spans, score(spans, model), strict=True):
        assert found.nats == pytest.approx(naive(model, span.tokens, span.first), rel=2e-5)
        assert found.tokens == len(span.tokens) - span.first


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("row_tokens", [16, 17, 10_000])
def test_rows_predict_every_token_but_the_first_once(add_bos: bool, row_tokens: int) -> None:
    tokenizer = tiny_tokenizer(add_bos=add_bos)
    tokens = tokenizer(TEXT)["input_ids"]
    spans = spans_of_text(TEXT, tokenizer, row_tokens)
    assert [token for span in spans for token in span.tokens[span.first :]] == tokens[1:]
    assert all(2 <= len(span.tokens) <= row_tokens and span.first == 1 for span in spans)
    unpredicted = 0 if add_bos else len(tokenizer.decode(tokens[:1]).encode())
    assert sum(span.bytes for span in spans) == len(TEXT.encode()) - unpredicted


def test_bytes_of_characters_that_are_several_tokens() -> None:
    text = "日本語の文章 naïve 🙂 x" * 3
    spans = spans_of_text("a" + text, tiny_tokenizer(), 16)
    assert len(spans) > 2
    assert sum(span.bytes for span in spans) == len(text.encode())


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_with_nothing_to_predict_has_no_span(text: str) -> None:
    assert spans_of_text(text, tiny_tokenizer(), 16) == []


def test_an_end_token_set_by_the_tokenizer_is_not_scored() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer()
    plain = spans_of_text(TEXT, tokenizer, 64)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", tokenizer.eos_token_id)]
    )
    assert tokenizer(TEXT)["input_ids"][-1] == tokenizer.eos_token_id
    assert spans_of_text(TEXT, tokenizer, 64) == plain


def test_damaged_weights_are_named() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(BadArtifact, match="NaN"):
        score([Span([5, 6, 7], 1, 3)], model)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(CannotRunHere, match="Slow"):
        spans_of_text("text", Slow(), 16)


def test_held_out_text_is_tokenized_as_training_text_is() -> None:
    """The name of a control token that a document writes is text, in both."""
    from llmtune.evaluate.likelihood import encode
    from llmtune.training.tokenize import tokenize

    tokenizer = tiny_tokenizer()
    document = replace(documents(1, 700)[0], text="A turn ends with <|im_end|>, a text with <|endoftext|>.")
    ids, _ = next(iter(tokenize([document], tokenizer)))
    found = encode(document.text or "", tokenizer)
    assert tokenizer.eos_token_id not in found
    assert [*found, tokenizer.eos_token_id] == list(ids)

"""Losses of continuations that share a context, against the plain computation of each whole text."""

from __future__ import annotations

import math

import pytest

from llmtune.evaluate.choices import branch_nats, branches_of
from llmtune.evaluate.likelihood import context_limit, encode
from tests.evaluate.conftest import documents
from tests.evaluate.test_likelihood import TEXT, naive
from tests.tiny import tiny_model, tiny_tokenizer

ENDS = (" keeps the cheapest path", " keeps", " the index of each row. And", "s")


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "gemma3_text", "granite", "cohere"])
def test_the_losses_are_those_of_each_whole_text(family: str) -> None:
    """Contexts shorter and longer than a sliding window of 24, some of one length, ends of 1 to 20 tokens."""
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    contexts = [TEXT[:12], TEXT[:90], TEXT[:250], TEXT[5:17], documents(2)[1].text[:90]]  # type: ignore[index]
    asked = [branches_of(context, ENDS, tokenizer) for context in contexts]
    for branches, nats in zip(asked, branch_nats(asked, model), strict=True):
        for end, found in zip(branches.ends, nats, strict=True):
            assert found == pytest.approx(naive(model, branches.shared + end, len(branches.shared)), rel=2e-5)


@pytest.mark.parametrize("add_bos", [False, True])
def test_a_continuation_is_all_that_is_scored(add_bos: bool) -> None:
    tokenizer = tiny_tokenizer(add_bos=add_bos)
    branches = branches_of(TEXT[:90], ENDS[:3], tokenizer)
    assert branches.shared == encode(TEXT[:90], tokenizer)
    for text, end in zip(ENDS, branches.ends, strict=False):
        assert branches.shared + end == tokenizer(TEXT[:90] + text)["input_ids"]
        assert end == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_token_across_the_border_is_scored_whole() -> None:
    tokenizer = tiny_tokenizer()
    assert len(encode(" the", tokenizer)) == 1 < len(encode(" th", tokenizer))
    branches = branches_of("in th", ["e", " of"], tokenizer)
    assert tokenizer.decode(branches.shared) == "in"
    assert [tokenizer.decode(end) for end in branches.ends] == [" the", " th of"]


@pytest.mark.parametrize("context", ["", "x", "a\n"])
def test_something_of_a_continuation_is_always_scored(context: str) -> None:
    """Else it would cost nothing, and be the likeliest of all."""
    branches = branches_of(context, ["x", " two words", "x"], tiny_tokenizer())
    assert branches.shared
    assert all(branches.ends)


@pytest.mark.parametrize("ends", [(" path",), ENDS, (" path " * 60, " row")])
def test_a_context_beyond_the_model_s_positions_loses_its_beginning(ends: tuple[str, ...]) -> None:
    model, tokenizer = tiny_model("gpt2", context=64), tiny_tokenizer()
    assert context_limit(model) == 64
    whole, cut = (branches_of(TEXT, ends, tokenizer, limit) for limit in (None, 64))
    assert max(len(cut.shared) + len(end) for end in cut.ends) == 64
    assert whole.shared[-len(cut.shared) :] == cut.shared
    assert all(long[: len(end)] == end for long, end in zip(whole.ends, cut.ends, strict=True))
    assert all(map(math.isfinite, branch_nats([cut], model)[0]))


def test_a_recurrent_model_reads_each_text_whole() -> None:
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)).eval()
    branches = branches_of(TEXT[:40], ENDS, tiny_tokenizer())
    for end, found in zip(branches.ends, branch_nats([branches], model)[0], strict=True):
        assert found == pytest.approx(naive(model, branches.shared + end, len(branches.shared)), rel=2e-5)

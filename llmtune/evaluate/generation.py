"""How a model is asked and how it answers: one way for the report, the user's own questions and `llmtune chat`, so that
all of them hear the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llmtune.corpus.store import Message
from llmtune.evaluate.likelihood import encode

if TYPE_CHECKING:
    from transformers import GenerationConfig

# Text as the tokens spell it, without the spaces before punctuation taken away.
DECODING = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}


def prompt_ids(messages: Sequence[Message], tokenizer: Any, where: str) -> list[int]:
    """A conversation as the model reads it when it is to answer: rendered as in training, with the template's fixed
    date, so that the answer does not depend on the day. Without a template the text of the last message, to go on with.

    Raises LlmtuneError, caused by the template's own error, when the template refuses the conversation.
    """
    from llmtune.training.chat_template import render

    if not tokenizer.chat_template:
        return continued_ids(messages[-1].content, tokenizer)
    text = render(tokenizer, messages, where, prompt=True)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def continued_ids(text: str, tokenizer: Any) -> list[int]:
    """A text as a model goes on with it: with the begin token where the tokenizer sets one."""
    return encode(text, tokenizer) if tokenizer.is_fast else list(tokenizer(text, verbose=False)["input_ids"])


def greedy(model: Any, tokenizer: Any, tokens: int) -> GenerationConfig:
    """The likeliest token each time, at most so many, until an end token."""
    from transformers import GenerationConfig

    ends = ends_of(model, tokenizer)
    return GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=ends, pad_token_id=0)


def ends_of(model: Any, tokenizer: Any) -> int | list[int] | None:
    """The tokens that end an answer: the model's own, else the tokenizer's."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return ends if ends is not None else tokenizer.eos_token_id


@contextmanager
def generating_by(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Within, `model.generate` goes by this configuration alone. Given as an argument it would be filled up with the
    model's own, which may sample, or punish repetition."""
    own, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = own

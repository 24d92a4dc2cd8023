"""Greedy answers of a model to prompts: to set side by side, and to questions with a free answer."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmtune.evaluate.subject import find_subject
from llmtune.monitor import Monitor


def reply(model: Any, tokenizer: Any, prompt: str, tokens: int, *, asked: bool = True) -> str:
    """The model's greedy reply to one prompt, through its chat template where it has one; else, or when it is not
    `asked`, it continues the text.

    A prompt that leaves no room for the answer loses its beginning."""
    import torch
    from transformers import GenerationConfig

    from llmtune.corpus.store import Message
    from llmtune.evaluate.likelihood import context_limit, encode
    from llmtune.training.chat_template import render

    if asked and tokenizer.chat_template:
        # rendered as in training, with its fixed date: the answer must not depend on the day
        text = render(tokenizer, [Message("user", prompt)], "the prompt", prompt=True)
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        ids = encode(prompt, tokenizer) if tokenizer.is_fast else tokenizer(prompt, verbose=False)["input_ids"]
    limit = context_limit(model)
    if limit:
        tokens = min(tokens, limit // 2)
        ids = ids[-(limit - tokens) :]
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = ends if ends is not None else tokenizer.eos_token_id
    # A configuration of our own: a model's may sample, or punish repetition.
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=ends, pad_token_id=0)
    inputs = torch.tensor([ids], device=model.device)
    own, model.generation_config = model.generation_config, config
    try:
        with torch.inference_mode():
            output = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs))
    finally:
        model.generation_config = own
    return str(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)).strip()


def answers_of(folder: Path, prompts: list[str], tokens: int, trust_remote_code: bool = False) -> list[str]:
    """The replies of the model in an artifact's folder; of a GGUF file as llama.cpp gives them."""
    subject = find_subject(folder, trust_remote_code)
    if subject.gguf is not None:
        from llmtune.export.llama_runtime import LlamaRuntime

        with LlamaRuntime(subject.gguf) as runtime:
            turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return ["".join(runtime.stream(turn, tokens, 0.0, 0)).strip() for turn in turns]
    with TemporaryDirectory(prefix="llmtune-answers-") as work:
        model, tokenizer = subject.load(Path(work), Monitor())
        return [reply(model, tokenizer, prompt, tokens) for prompt in prompts]

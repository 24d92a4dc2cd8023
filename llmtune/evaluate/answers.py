"""Greedy answers of a model to prompts: to set side by side, and to questions with a free answer."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmtune.evaluate.estimate import ANSWER_CONTEXT
from llmtune.evaluate.subject import find_subject
from llmtune.monitor import Monitor


def reply(model: Any, tokenizer: Any, prompt: str, tokens: int, *, asked: bool = True) -> str:
    """The model's greedy reply to one prompt, through its chat template where it has one; else, or when it is not
    `asked`, it continues the text.

    A prompt that leaves no room for the answer loses its beginning."""
    import torch

    from llmtune.corpus.store import Message
    from llmtune.evaluate.generation import DECODING, continued_ids, generating_by, greedy, prompt_ids
    from llmtune.evaluate.likelihood import context_limit

    question = [Message("user", prompt)]
    ids = prompt_ids(question, tokenizer, "the prompt") if asked else continued_ids(prompt, tokenizer)
    limit = context_limit(model)
    if limit:
        tokens = min(tokens, limit // 2)
        ids = ids[-(limit - tokens) :]
    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode(), generating_by(model, greedy(model, tokenizer, tokens)):
        output = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs))
    return str(tokenizer.decode(output[0, len(ids) :], **DECODING)).strip()


def answers_of(folder: Path, prompts: list[str], tokens: int, trust_remote_code: bool = False) -> list[str]:
    """The replies of the model in an artifact's folder; of a GGUF file as llama.cpp gives them."""
    subject = find_subject(folder, trust_remote_code)
    if subject.gguf is not None:
        from llmtune.export.llama_runtime import LlamaRuntime

        with LlamaRuntime(subject.gguf, ANSWER_CONTEXT) as runtime:
            turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return ["".join(runtime.stream(turn, tokens, 0.0, 0)).strip() for turn in turns]
    with TemporaryDirectory(prefix="llmtune-answers-") as work:
        model, tokenizer = subject.load(Path(work), Monitor())
        return [reply(model, tokenizer, prompt, tokens) for prompt in prompts]

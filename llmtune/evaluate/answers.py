"""Greedy answers of a model to prompts, to set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtune.evaluate.subject import find_subject


def reply(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    """The model's greedy reply to one prompt, through its chat template where it has one; else it continues the text."""
    import torch

    if tokenizer.chat_template:
        turns = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        output = model.generate(**inputs.to(model.device), max_new_tokens=tokens, do_sample=False, pad_token_id=pad)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def answers_of(folder: Path, prompts: list[str], tokens: int) -> list[str]:
    """The replies of the model in an artifact's folder; of a GGUF file as llama.cpp gives them."""
    subject = find_subject(folder)
    if subject.gguf is not None:
        from llmtune.export.llama_runtime import LlamaRuntime

        with LlamaRuntime(subject.gguf) as runtime:
            turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return ["".join(runtime.stream(turn, tokens, 0.0, 0)).strip() for turn in turns]
    model, tokenizer = subject.load()
    return [reply(model, tokenizer, prompt, tokens) for prompt in prompts]

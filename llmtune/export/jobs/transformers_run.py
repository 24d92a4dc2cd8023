"""Load a checkpoint with plain transformers and say how it reads text and what it predicts. Run by `llmtune.export`.

Input (JSON): folder; dtype; attention; trust_remote_code; adapter (path or null); nf4 (whether to load the folder in 4
bits); texts, conversations, windows [[tokens, positions], …], top; result, arrays (paths). Result (JSON): what `read`
returns; the arrays file (npz) holds what `predict` returns.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        job["adapter"] or job["folder"], trust_remote_code=job["trust_remote_code"]
    )
    dtype = job["dtype"] if job["dtype"] == "auto" else getattr(torch, job["dtype"])
    options: dict[str, Any] = {"quantization_config": nf4(dtype), "device_map": {"": "cpu"}} if job["nf4"] else {}
    options["trust_remote_code"] = job["trust_remote_code"]
    model = AutoModelForCausalLM.from_pretrained(
        job["folder"], dtype=dtype, attn_implementation=job["attention"], **options
    )
    if job["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
    model.eval()
    ids, logprobs = predict(model, job["windows"], job["top"])
    np.savez(job["arrays"], ids=ids, logprobs=logprobs)
    reading = read(tokenizer, job["texts"], job["conversations"])
    reading["imported_llmtune"] = any(name.split(".")[0] == "llmtune" for name in sys.modules)
    Path(job["result"]).write_text(json.dumps(reading), encoding="utf-8")


def nf4(dtype: Any) -> Any:
    """The 4-bit format that a QLoRA adapter was trained against."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def read(tokenizer: Any, texts: Sequence[str], conversations: Sequence[Any]) -> dict[str, Any]:
    """What a tokenizer makes of texts and conversations: `tokens`, `tokens_with_special`, `rendered` (None where the
    template refuses the conversation) and `tokens_of_rendered`."""
    from jinja2 import TemplateError

    rendered: list[str | None] = []
    tokens_of_rendered: list[list[int] | None] = []
    for messages in conversations if tokenizer.chat_template else ():
        messages = list(messages)
        try:
            rendered.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:  # a template that refuses, say, a system turn
            rendered.append(None)
            tokens_of_rendered.append(None)
            continue
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        tokens_of_rendered.append(list(encoded["input_ids"]))
    return {
        "tokens": [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts],
        "tokens_with_special": [list(tokenizer(text)["input_ids"]) for text in texts],
        "rendered": rendered,
        "tokens_of_rendered": tokens_of_rendered,
    }


def predict(model: Any, windows: Iterable[Sequence[list[int]]], top: int) -> tuple[Any, Any]:
    """The likeliest next tokens at positions of windows [tokens, positions]: ids int64 (P, top) and log-probabilities
    float32 (P, top), likeliest first."""
    import torch

    ids, logprobs = [], []
    device = next(model.parameters()).device
    with torch.inference_mode():
        for tokens, positions in windows:
            logits_TV = model(torch.tensor([tokens], device=device), use_cache=False).logits[0, positions].float()
            best = torch.log_softmax(logits_TV, -1).topk(min(top, logits_TV.shape[-1]), dim=-1)
            ids.append(best.indices.cpu())
            logprobs.append(best.values.cpu())
    return torch.cat(ids).numpy(), torch.cat(logprobs).numpy()


def end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held at exit
        pass
    os._exit(4)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    main()

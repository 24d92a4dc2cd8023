"""Load a checkpoint with plain transformers and say how it reads text and what it predicts. Run by `llmtune.export`.

Input (JSON): folder; adapter (path or null); texts, conversations, windows [{tokens, positions}], top; result, arrays
(paths). Result (JSON): tokens, rendered, tokens_of_rendered; the arrays file (npz) holds ids and logprobs,
(positions, top).
"""

import json
import os
import sys
import threading
from pathlib import Path


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=getattr(torch, job["dtype"]))
    if job["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
    model.eval()
    ids, logprobs = predict(model, job["windows"], job["top"])
    np.savez(job["arrays"], ids=ids, logprobs=logprobs)
    reading = read(AutoTokenizer.from_pretrained(job["adapter"]) if job["adapter"] else tokenizer, job)
    reading["imported_llmtune"] = any(name.split(".")[0] == "llmtune" for name in sys.modules)
    Path(job["result"]).write_text(json.dumps(reading), encoding="utf-8")


def read(tokenizer, job):
    """What the tokenizer makes of the probes."""
    from jinja2 import TemplateError

    rendered, tokens_of_rendered = [], []
    for messages in job["conversations"] if tokenizer.chat_template else ():
        try:
            rendered.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:
            rendered.append(None)
            tokens_of_rendered.append(None)
            continue
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        tokens_of_rendered.append(list(encoded["input_ids"]))
    return {
        "tokens": [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in job["texts"]],
        "tokens_with_special": [list(tokenizer(text)["input_ids"]) for text in job["texts"]],
        "rendered": rendered,
        "tokens_of_rendered": tokens_of_rendered,
    }


def predict(model, windows, top):
    """Log-probabilities of the likeliest next tokens: ids and logprobs, (positions, top), likeliest first."""
    import torch

    ids, logprobs = [], []
    with torch.inference_mode():
        for window in windows:
            logits_TV = model(torch.tensor([window["tokens"]])).logits[0, window["positions"]].float()
            best = torch.log_softmax(logits_TV, -1).topk(min(top, logits_TV.shape[-1]), dim=-1)
            ids.append(best.indices)
            logprobs.append(best.values)
    return torch.cat(ids).numpy(), torch.cat(logprobs).numpy()


def end_with_parent():
    while os.read(0, 1):  # not sys.stdin: its lock would be held at exit
        pass
    os._exit(4)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    main()

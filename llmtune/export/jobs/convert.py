"""Convert a Hugging Face folder to a float32 GGUF with llama.cpp's converter. Run by `llmtune.export.convert`.

Input (JSON): checkpoint, target, result (paths); pre_tokenizer (name or null); pre_tokenizers (structure → name);
untied_families (model types whose output head is stored even where it is tied); trust_remote_code.
Result (JSON): {} or {"error": kind, "message": …}; of an OSError (kind "system") with its "errno".
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    result: dict[str, Any] = {}
    try:
        convert(job)
    except Refused as refusal:
        result = {"error": refusal.kind, "message": str(refusal)}
        if isinstance(refusal.__cause__, OSError):
            result["errno"] = refusal.__cause__.errno
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


class Refused(Exception):
    """What the user can do something about."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def convert(job: dict[str, Any]) -> None:
    import torch

    model_class, architecture, settings = converter_class(job["checkpoint"])
    import gguf

    known = model_class.get_vocab_base_pre

    def pre_tokenizer(self: Any, tokenizer: Any) -> str:
        return choose_pre_tokenizer(job, tokenizer, lambda: known(self, tokenizer))

    model_class.get_vocab_base_pre = pre_tokenizer
    with torch.inference_mode():
        try:
            # First of all: the converter itself would run a tokenizer's own code without asking.
            check_tokenizer_fits(job["checkpoint"], job["trust_remote_code"])
            model = model_class(
                Path(job["checkpoint"]), gguf.LlamaFileType.ALL_F32, Path(job["target"]), hparams=settings
            )
            if settings.get("tie_word_embeddings") and settings.get("model_type") in job["untied_families"]:
                model.model_tensors["lm_head.weight"] = model.model_tensors["model.embed_tokens.weight"]
            model.write()
        except (LookupError, ValueError, NotImplementedError, TypeError, AssertionError, OSError) as error:
            kind = "system" if isinstance(error, OSError) else "architecture"
            raise Refused(kind, f"{architecture}: {type(error).__name__}: {error}") from error


def converter_class(checkpoint: str) -> tuple[Any, str, dict[str, Any]]:
    """The converter's class for a checkpoint, its architecture, and the config as the converter wants it."""
    try:
        from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    except (ImportError, AttributeError) as error:
        raise Refused("install", f"any model: {type(error).__name__}: {error}") from error
    settings = ModelBase.load_hparams(Path(checkpoint), False)
    if "n_positions" in settings:  # GPT-2: transformers 5 no longer writes the older name
        settings.setdefault("n_ctx", settings["n_positions"])
    architecture = get_model_architecture(settings, ModelType.TEXT)
    try:
        return get_model_class(architecture), architecture, settings
    except NotImplementedError as error:
        raise Refused("architecture", str(error)) from error
    except (ImportError, AttributeError) as error:
        raise Refused("install", f"{architecture}: {type(error).__name__}: {error}") from error


def choose_pre_tokenizer(job: dict[str, Any], tokenizer: Any, by_hash: Callable[[], str]) -> str:
    """The user's choice, else the converter's (it knows published vocabularies by a hash), else by how it splits."""
    if job["pre_tokenizer"]:
        return str(job["pre_tokenizer"])
    try:
        return by_hash()
    except NotImplementedError:
        pass
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    key = json.dumps(splitting(backend), sort_keys=True)
    if key in job["pre_tokenizers"]:
        return str(job["pre_tokenizers"][key])
    raise Refused("pre_tokenizer", key)


def splitting(backend: dict[str, Any]) -> dict[str, Any]:
    """How a tokenizer.json cuts text before merging: its steps without what does not change the cuts."""
    steps = backend.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    cuts: list[list[Any]] = []
    for step in steps:
        if step.get("type") == "ByteLevel":
            cuts.append(["ByteLevel", bool(step.get("use_regex", True)), bool(step.get("add_prefix_space", False))])
        elif step.get("type") == "Split":
            cuts.append(["Split", step["pattern"].get("Regex") or step["pattern"].get("String"), step.get("behavior")])
        elif step.get("type") == "Digits":
            cuts.append(["Digits", bool(step.get("individual_digits"))])
        else:
            cuts.append([step.get("type")])
    return {"cuts": cuts, "whole_words": bool((backend.get("model") or {}).get("ignore_merges", False))}


def check_tokenizer_fits(checkpoint: str, trust_remote_code: bool) -> None:
    """Refuse a tokenizer with ids that the embedding has no rows for."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    largest = max(tokenizer.get_vocab().values())
    if rows is not None and largest >= rows:
        raise Refused("tokenizer", f"token id {largest} ('{tokenizer.convert_ids_to_tokens(largest)}') of {rows} rows")


def end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held at exit
        pass
    os._exit(4)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    main()

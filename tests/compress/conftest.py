"""Tiny random models and a tiny corpus, made once a session."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

WORDS = "the index scans rows of a table where the planner finds it cheap and vacuum frees space after update"
END, UNKNOWN = "<end>", "<unknown>"


def _tokenizer(folder: Path) -> None:
    """A word tokenizer of 300 entries, in the files transformers reads."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {END: 0, UNKNOWN: 1} | {word: i + 2 for i, word in enumerate(dict.fromkeys(WORDS.split()))}
    vocabulary |= {f"w{i}": i for i in range(len(vocabulary), 300)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, unk_token=UNKNOWN).save_pretrained(folder)


def save_tiny(folder: Path, family: str) -> Path:
    """A random bf16 model of a family with two layers, hidden 64, vocabulary 300; outliers in a few input channels."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    common = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    shape = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
    }  # fmt: skip
    if family == "gpt2":
        shape = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    if family == "mixtral":
        shape |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    tied = family != "qwen2"
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, tie_word_embeddings=tied, **common, **shape)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.mul_(4)
            elif name.endswith("norm.weight"):
                weight[::7] *= 3  # uneven inputs are what GPTQ makes use of
    model.to(torch.bfloat16).save_pretrained(folder)
    _tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """family → folder of a tiny random checkpoint."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = save_tiny(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 60 short documents in `train`."""
    import random

    from llmtune.corpus.store import Document, write_split

    rng = random.Random(5)
    folder = tmp_path_factory.mktemp("corpus")
    documents = []
    for i in range(60):
        text = " ".join(rng.choices(WORDS.split(), k=rng.randrange(20, 120)))
        digest = hashlib.sha256(text.encode()).hexdigest()
        documents.append(Document(f"d{i}", text, None, "words", None, digest, digest))
    write_split(folder, "train", documents)
    (folder / "card.json").write_text(json.dumps({}))
    return folder

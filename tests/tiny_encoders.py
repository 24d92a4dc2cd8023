"""Tiny random encoders with their tokenizers, as Hugging Face folders: what `tests/tiny.py` is for decoders."""

# ruff: noqa: S106 (names of tokens are no passwords)

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny import TEXT

# Family → (configuration class, what differs from the common size).
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {"max_position_embeddings": 98, "type_vocab_size": 1}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "dropout": 0.0, "attention_dropout": 0.0},
    ),
    "modernbert": (
        "ModernBertConfig",
        {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
}


@cache
def tiny_wordpiece() -> Any:
    """A BERT tokenizer: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # Not trained: its trainer breaks ties in another way in each process. Words are cut after their third letter.
    words = sorted(set(re.findall(r"[a-z]+", " ".join(TEXT).lower())))
    signs = sorted(set("".join(TEXT).lower()) | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, *(f"##{sign}" for sign in signs)]
    pieces += [piece for word in words for piece in (word[:3], f"##{word[3:]}")]
    backend = Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
    )
    backend.decoder = decoders.WordPiece()
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=96,
    )  # fmt: skip


@cache
def tiny_byte_level() -> Any:
    """A RoBERTa tokenizer: <s> 0, <pad> 1, </s> 2, <unk> 3, <mask> last."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=319, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(TEXT, trainer)
    backend.add_special_tokens(["<mask>"])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", mask_token="<mask>", model_max_length=96,
    )  # fmt: skip


def tokenizer_of(family: str) -> Any:
    """Byte-level BPE for RoBERTa and ModernBERT, WordPiece for the others."""
    return tiny_byte_level() if family in ("roberta", "modernbert") else tiny_wordpiece()


@cache
def tiny_encoder(family: str = "bert") -> Any:
    """A random model in eval mode; norms and biases are moved off their neutral start, so that losing one shows."""
    import torch
    import transformers

    tokenizer, (name, differences) = tokenizer_of(family), ENCODERS[family]
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 96,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
        "initializer_range": 0.2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, name)(**{**common, **differences})
        model = transformers.AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for _, parameter in sorted(model.named_parameters()):
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def tiny_encoder_checkpoint(folder: Path, family: str = "bert") -> Path:
    """Save the tiny encoder and its tokenizer into `folder` as transformers does; returns it."""
    tiny_encoder(family).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder

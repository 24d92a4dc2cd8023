"""Trimmed tokenizers: tokens of kept text stay the tokens they were, and every text can still be written."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.compress.trimmed_tokenizer import (
    framing_tokens,
    kept_tokens,
    named_in,
    renumbered,
    without_the_rest,
    without_tokens,
)
from llmtune.errors import CannotRunHere
from tests.tiny import TEXT, tiny_tokenizer

SIZE = 512
SEEN = TEXT[0]  # of all tokens, those of one sentence are in the corpus
UNIGRAM: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False},
}  # fmt: skip


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
        "padding": {"pad_id": 10, "pad_token": "<s>"},
        "post_processor": {
            "type": "TemplateProcessing",
            "special_tokens": {"<s>": {"id": "<s>", "ids": [10], "tokens": ["<s>"]}},
        },
    }
    counts = [0, 0, 0, 0, 0, 0, 0, 5, 1, 0]
    import llmtune.compress.trimmed_tokenizer as module

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
    assert made["padding"] == {"pad_id": 7, "pad_token": "<s>"}
    assert spec["model"]["vocab"]["er"] == 5  # the one given is as it was
    assert without_the_rest(spec | {"padding": {"pad_id": 11}}, kept)["padding"] is None


def test_unknown_characters_cost_what_they_did() -> None:
    """A character without a piece costs 10 more than the piece of the lowest score (`cab`, which this text lacks)."""
    from tokenizers import Tokenizer

    pieces = [["<unk>", 0.0], ["cab", -49.1], ["c", -0.27], ["aa", -43.37], ["a", -22.14], ["b", -18.21]]
    before = Tokenizer.from_str(json.dumps(UNIGRAM | {"model": UNIGRAM["model"] | {"vocab": pieces}}))
    text = "daaadbbc"
    assert before.encode(text).tokens == ["d", "aa", "a", "d", "b", "b", "c"]
    spec = json.loads(before.to_str())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmtune.compress.trimmed_tokenizer.MULTIPLE", 1)
        kept = kept_tokens(spec, [3, 0, 1, 1, 1, 2], 1)
    after = Tokenizer.from_str(json.dumps(without_the_rest(spec, kept)))
    assert after.encode(text).tokens == before.encode(text).tokens


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


def test_what_is_without_a_row_is_no_longer_named() -> None:
    config = {"pad_token": "[PAD]", "eos_token": {"content": "</s>"}, "image_token": {"content": "<image>"},
              "extra_special_tokens": ["<image>", "<s>"], "named": {"image": "<image>", "end": "</s>"}, "size": 3,
              "tokenizer_class": "Some"}  # fmt: skip
    assert without_tokens(config, {"[PAD]", "<image>"}) == {
        "eos_token": {"content": "</s>"}, "extra_special_tokens": ["<s>"], "named": {"end": "</s>"}, "size": 3,
        "tokenizer_class": "Some",
    }  # fmt: skip


def test_other_kinds_are_refused() -> None:
    from tokenizers import Tokenizer, models

    spec = json.loads(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())  # noqa: S106
    with pytest.raises(CannotRunHere, match="WordLevel"):
        kept_tokens(spec, [1], 1)


def test_what_only_stands_in_a_template_frames_no_text() -> None:
    """`A` is the name of the text's own place, and may be a word as well."""
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                "pair": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}  # fmt: skip
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True}
    spec = {"model": {"type": "BPE", "vocab": {"A": 0, "<s>": 1, "</s>": 2, "B": 3}}, "added_tokens": []}
    assert framing_tokens(spec | {"post_processor": {"type": "Sequence", "processors": [template]}}) == {1}
    assert framing_tokens(spec | {"post_processor": roberta}) == {1, 2}
    assert framing_tokens(spec | {"post_processor": None}) == set()

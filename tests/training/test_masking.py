"""Which tokens are masked: rates, what is never masked, whole words, and that nothing but (seed, epoch, row) counts."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmtune.errors import LlmtuneError
from llmtune.training.collate import NOT_TRAINED, Collator, Sample
from llmtune.training.data import Row
from llmtune.training.masking import Masker, mask_token, masker_for, masking_problem, special_ids
from llmtune.training.settings import MaskingSettings
from tests.tiny import UNKNOWN, tiny_config, tiny_tokenizer
from tests.tiny_encoders import tiny_byte_level, tiny_encoder, tiny_wordpiece

CAUSAL: dict[str, Any] = {"type": "causal", "token": UNKNOWN}
MLM: dict[str, Any] = {"type": "mlm"}


def masker(seed: int = 7, **choices: Any) -> Masker:
    """The masker of a tiny Llama, or of a tiny BERT for mlm."""
    if choices["type"] == "mlm":
        tokenizer, config = tiny_wordpiece(), _bert_config()
    else:
        tokenizer, config = tiny_tokenizer(), tiny_config("llama").to_dict()
    made = masker_for(MaskingSettings.model_validate(choices), tokenizer, config, seed)
    assert made is not None
    return made


@cache
def _bert_config() -> dict[str, Any]:
    return tiny_encoder("bert").config.to_dict()


def row_of(tokens: int, seed: int = 0, size: int = 320) -> Row:
    """Random ids, special ones among them; the first quarter is context, as in a conversation; words of 1 to 3."""
    draw = np.random.default_rng(seed)
    return Row(
        input_ids=draw.integers(0, size, tokens).astype(np.int32),
        documents=np.zeros(tokens, np.int32),
        trained=np.arange(tokens) >= tokens // 4 + 1,
        words=(np.arange(tokens) == 0) | (draw.random(tokens) < 0.6),
    )


def within(count: int, of: int, rate: float, spread: float = 1.0) -> bool:
    """Whether a count is one that a binomial distribution gives but once in a million times. spread: of its deviation,
    where what is drawn is more than one token."""
    return abs(count - of * rate) <= 5 * spread * math.sqrt(of * rate * (1 - rate)) + 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**62), st.floats(0.02, 0.9), st.integers(0, 10**9), st.sampled_from([CAUSAL, MLM]))
def test_the_rate_is_that_asked_for(seed: int, ratio: float, epoch: int, choices: dict[str, Any]) -> None:
    draw = masker(seed, **choices, ratio=ratio)
    masked = possible = 0
    for index in range(8):
        row = row_of(1000, index, 188)
        read = draw(row, epoch, index)
        chosen = read.trained if choices is MLM else read.input_ids != row.input_ids
        masked += int(chosen.sum())
        possible += int((row.trained & ~draw.special[row.input_ids]).sum())
    assert within(masked, possible, ratio, spread=2.0 if choices is MLM else 1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 10**6), st.integers(0, 9), st.floats(0.01, 0.99))
def test_causal_masks_hide_inputs_and_leave_the_targets(tokens: int, index: int, epoch: int, ratio: float) -> None:
    row, draw = row_of(tokens, index), masker(**CAUSAL, ratio=ratio)
    read = draw(row, epoch, index)
    changed = read.input_ids != row.input_ids
    assert (read.input_ids[changed] == draw.token).all()
    assert not changed[~row.trained].any()  # the first token, the question of a conversation
    assert not np.isin(row.input_ids[changed], special_ids(tiny_tokenizer())).any()
    assert (read.trained == row.trained).all()
    batch = Collator(1, masker=draw)([Sample(epoch, index, row)])
    plain = Collator(1)([Sample(epoch, index, row)])
    assert torch.equal(batch["labels"], plain["labels"])
    assert batch["input_ids"][0].tolist() == read.input_ids.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 10**6), st.integers(0, 9), st.floats(0.01, 0.99), st.booleans())
def test_masked_language_models_learn_what_was_chosen(
    tokens: int, index: int, epoch: int, ratio: float, whole: bool
) -> None:
    row, draw = row_of(tokens, index, 188), masker(**MLM, ratio=ratio, whole_words=whole)
    read = draw(row, epoch, index)
    special = np.array(special_ids(tiny_wordpiece()))
    assert not (read.trained & ~row.trained).any()
    assert not np.isin(row.input_ids[read.trained], special).any()
    assert (read.input_ids[~read.trained] == row.input_ids[~read.trained]).all()
    written = read.input_ids[read.trained & (read.input_ids != row.input_ids)]
    assert not np.isin(written, special[special != draw.token]).any()
    labels = Collator(0, "blocks", masker=draw)([Sample(epoch, index, row)])["labels"][0].numpy()
    assert (labels == np.where(read.trained, row.input_ids, NOT_TRAINED)).all()
    if whole:
        assert row.words is not None
        learnable = row.trained & ~np.isin(row.input_ids, special)
        for word in np.split(np.arange(tokens), np.flatnonzero(row.words)[1:]):
            of_word = read.trained[word][learnable[word]]
            assert of_word.all() or not of_word.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from([CAUSAL, MLM]), st.integers(0, 5))
def test_a_row_is_read_alike_in_any_batch_of_any_rank(
    rows: int, ranks: int, choices: dict[str, Any], epoch: int
) -> None:
    collate = Collator(0, "blocks" if choices is MLM else "positions", pad_to=40, masker=masker(**choices))
    samples = [Sample(epoch, index, row_of(9 + 3 * index, index, 188)) for index in range(rows)]
    together = collate(samples)
    for rank in range(ranks):
        mine = samples[rank::ranks]
        for first in range(0, len(mine), 2):
            batch = collate(mine[first : first + 2])
            for place, sample in enumerate(mine[first : first + 2]):
                for name in ("input_ids", "labels"):
                    assert torch.equal(batch[name][place], together[name][sample.index])


@pytest.mark.parametrize("choices", [CAUSAL, MLM], ids=["causal", "mlm"])
def test_epochs_rows_and_seeds_differ_and_one_repeats(choices: dict[str, Any]) -> None:
    row = row_of(300, 1, 188)
    readings = {
        (seed, epoch, index): masker(seed, **choices)(row, epoch, index).input_ids.tobytes()
        for seed in (7, 8) for epoch in (0, 1, 2) for index in (0, 1)
    }  # fmt: skip
    assert len(set(readings.values())) == len(readings)
    for (seed, epoch, index), read in readings.items():
        np.random.seed(3)  # what else is drawn does not count
        assert masker(seed, **choices)(row, epoch, index).input_ids.tobytes() == read


def test_the_draws_stay_what_they_are() -> None:
    """Masks are part of what a seed promises: another numpy, or another machine, must give these."""
    row = Row(np.arange(5, 45, dtype=np.int32), np.zeros(40, np.int32), np.arange(40) > 0, np.arange(40) % 2 == 0)
    causal, mlm = masker(**CAUSAL)(row, 1, 5), masker(**MLM)(row, 1, 5)
    assert np.flatnonzero(causal.input_ids != row.input_ids).tolist() == [1, 5, 13, 19, 29, 32, 38]
    learned = [(place, int(mlm.input_ids[place])) for place in np.flatnonzero(mlm.trained).tolist()]
    assert learned == [(1, 4), (32, 37), (33, 4), (38, 4), (39, 4)]  # 4 is [MASK]; the row itself has 37 at 32


def test_validation_is_unmasked_or_masked_in_the_same_way() -> None:
    row = row_of(200, 1, 188)
    as_it_is = masker(**CAUSAL)(row, None, 3)
    assert (as_it_is.input_ids == row.input_ids).all()
    assert (as_it_is.trained == row.trained).all()
    once, again = (masker(**MLM)(row, None, 3) for _ in range(2))
    assert 0 < once.trained.sum() < 100
    assert (once.input_ids == again.input_ids).all()
    assert (once.trained == again.trained).all()


def test_against_the_collator_of_transformers() -> None:
    """The parts of chosen, masked, replaced and left tokens are those of DataCollatorForLanguageModeling."""
    from transformers import DataCollatorForLanguageModeling

    tokenizer = tiny_wordpiece()
    rows = [row_of(400, index, 188) for index in range(60)]
    for row in rows:
        row.trained[:] = True
    reference = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    torch.manual_seed(0)
    theirs = reference([{"input_ids": row.input_ids.astype(np.int64)} for row in rows])
    ours = Collator(0, "blocks", masker=masker(**MLM, whole_words=False))(
        [Sample(0, index, row) for index, row in enumerate(rows)]
    )
    possible = sum(int((~np.isin(row.input_ids, special_ids(tokenizer))).sum()) for row in rows)
    original = torch.from_numpy(np.stack([row.input_ids for row in rows]).astype(np.int64))
    for batch in (ours, theirs):
        labels, read = batch["labels"], batch["input_ids"]
        chosen = labels != NOT_TRAINED
        assert torch.equal(labels[chosen], original[chosen])
        assert torch.equal(read[~chosen], original[~chosen])
        count = int(chosen.sum())
        assert within(count, possible, 0.15)
        assert within(int((read[chosen] == tokenizer.mask_token_id).sum()), count, 0.8)
        # a random token is now and then the same one: theirs, of all 188, as ours, of the 183 that are not special
        assert within(int((read[chosen] == original[chosen]).sum()), count, 0.1 + 0.1 / 185)


FIELDS = {"type": "mlm", "ratio": 0.4, "token": "b", "whole_words": False}


@pytest.mark.parametrize("field", sorted(MaskingSettings.model_fields))
def test_every_field_is_read(field: str) -> None:
    base = MLM if field == "whole_words" else {"type": "causal", "token": "a"}
    row = row_of(300, 2, 188)
    before, after = (masker(**choices)(row, 0, 0).input_ids for choices in (base, {**base, field: FIELDS[field]}))
    assert (before != after).any()


def test_the_token_that_stands_for_a_masked_one() -> None:
    wordpiece, roberta, plain = tiny_wordpiece(), tiny_byte_level(), tiny_tokenizer()
    assert wordpiece.convert_ids_to_tokens(mask_token(None, wordpiece, 188)) == "[MASK]"
    assert roberta.convert_ids_to_tokens(mask_token(None, roberta, 320)) == "<mask>"
    assert mask_token(UNKNOWN, plain, 320) == plain.convert_tokens_to_ids(UNKNOWN)
    with pytest.raises(LlmtuneError, match="special token to spare"):
        mask_token(None, plain, 320)  # all it has open or close texts and turns
    with pytest.raises(LlmtuneError, match=r"masking.token '<nothing>'"):
        mask_token("<nothing>", plain, 320)
    spare = tiny_tokenizer()
    spare.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|spare_1|>", "<|spare_2|>"]})
    assert spare.convert_ids_to_tokens(mask_token(None, spare, len(spare))) == "<|spare_2|>"
    assert spare.convert_ids_to_tokens(mask_token(None, spare, len(spare) - 1)) == "<|spare_1|>"  # no row for the last
    with pytest.raises(LlmtuneError, match="vocabulary"):
        mask_token("<|spare_2|>", spare, len(spare) - 1)


def test_an_encoder_is_masked_without_being_asked() -> None:
    made = masker_for(None, tiny_wordpiece(), _bert_config(), 0)
    assert made is not None
    assert made.settings == MaskingSettings(type="mlm")
    assert masker_for(None, tiny_tokenizer(), tiny_config("llama").to_dict(), 0) is None


def test_a_ratio_of_0_is_no_masking() -> None:
    """Of a search over the ratio this trial is a training without; it needs no token to spare."""
    none = MaskingSettings(type="causal", ratio=0.0)
    assert masker_for(none, tiny_tokenizer(), tiny_config("llama").to_dict(), 0) is None


def test_settings_and_models_that_do_not_fit() -> None:
    for wrong in ({"type": "mlm", "ratio": 0.0}, {"type": "mlm", "ratio": 1.0}, {**CAUSAL, "whole_words": True}, {}):
        with pytest.raises(ValidationError):
            MaskingSettings.model_validate(wrong)
    bert, llama = _bert_config(), tiny_config("llama").to_dict()
    assert "use type mlm" in str(masking_problem(MaskingSettings(type="causal"), bert))
    assert "use type causal" in str(masking_problem(MaskingSettings(type="mlm"), llama))
    assert masking_problem(MaskingSettings(type="mlm"), bert) is None
    assert masking_problem(MaskingSettings(type="causal"), llama) is None
    assert masking_problem(None, bert) is None

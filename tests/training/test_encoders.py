"""Encoders through the same training: their rows, their masks of attention, their loss, and what is saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmtune.corpus.store import read_split
from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.machine import Machine
from llmtune.models.families import PACKED_ENCODERS, first_position, is_encoder
from llmtune.models.shape import read_shape
from llmtune.stages.stage import Forecast, Plan
from llmtune.stages.train import TrainStage
from llmtune.training.collate import NOT_TRAINED, Collator, Sample
from llmtune.training.data import Row, Rows, build_rows
from llmtune.training.isolation import PACKED, crosses_documents, isolation_of
from llmtune.training.loss import masked_token_loss
from llmtune.training.masking import masker_for, special_ids
from llmtune.training.objective import MaskedToken, NextToken, objective_for
from tests.tiny import TEXT, tiny_config
from tests.tiny_encoders import ENCODERS, tiny_encoder, tiny_encoder_checkpoint, tokenizer_of
from tests.training.corpora import chat, corpus_of, text
from tests.training.small_run import Interrupting, history_of, small_corpus, small_train

LONG = " ".join(TEXT)
FAMILIES = sorted(ENCODERS)


def config_of(family: str) -> dict[str, Any]:
    config: dict[str, Any] = tiny_encoder(family).config.to_dict()
    return config


def rows_of(folder: Path, family: str, row_tokens: int = 40) -> Rows:
    documents = [text("long", LONG), *(text(str(number), words) for number, words in enumerate(TEXT)), text("a", "a")]
    corpus = corpus_of(folder, *documents)
    pack = isolation_of(config_of(family)) in PACKED
    return build_rows(corpus, "train", tokenizer_of(family), row_tokens, pack=pack, framed=True)


def collator_of(family: str, *, masked: bool = True) -> Collator:
    config, tokenizer = config_of(family), tokenizer_of(family)
    masker = masker_for(None, tokenizer, config, 7) if masked else None
    return Collator(tokenizer.pad_token_id, isolation_of(config), masker=masker, first_position=first_position(config))


def documents_of(row: Row) -> list[np.ndarray]:
    return np.split(row.input_ids, np.flatnonzero(np.diff(row.documents)) + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_piece_stands_between_the_tokens_of_a_sequence(tmp_path: Path, family: str) -> None:
    tokenizer = tokenizer_of(family)
    rows = rows_of(tmp_path, family, 60)
    opening, closing = tokenizer.cls_token_id, tokenizer.sep_token_id
    pieces = [piece for row in rows for piece in documents_of(row)]
    assert max(map(len, pieces)) == 60
    assert all(piece[0] == opening and piece[-1] == closing for piece in pieces)
    inside = sorted(token for piece in pieces for token in piece[1:-1].tolist())
    plain = [tokenizer(document.text, add_special_tokens=False).input_ids for document in read_split(tmp_path, "train")]
    assert inside == sorted(token for ids in plain for token in ids)
    whole = tokenizer(TEXT[0]).input_ids
    assert len(whole) <= 60
    assert whole in [piece.tolist() for piece in pieces]
    for row in rows:
        assert (row.trained == ~np.isin(row.input_ids, special_ids(tokenizer))).all()
    assert rows.trained_tokens == len(inside)
    assert rows.tokens == len(inside) + 2 * len(pieces)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_words_are_those_of_the_tokenizer(tmp_path: Path, family: str) -> None:
    tokenizer = tokenizer_of(family)
    by_document: dict[bytes, np.ndarray] = {}
    for row in rows_of(tmp_path, family, 90):
        assert row.words is not None
        for number, piece in enumerate(documents_of(row)):
            by_document[piece.tobytes()] = row.words[row.documents == number]
    for words in TEXT:
        encoded = tokenizer(words)
        inside = encoded.word_ids()[1:-1]
        starts = [True, *(now != before for before, now in zip([None, *inside], inside, strict=False)), True]
        found = by_document[np.array(encoded.input_ids, np.int32).tobytes()]
        assert found.tolist() == starts
    assert sum(starts) < len(starts)


def test_conversations_are_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, chat("talk", ("user", "Why?"), ("assistant", "So.")))
    with pytest.raises(LlmtuneError, match="talk"):
        build_rows(corpus, "train", tokenizer_of("bert"), 40, framed=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_document_is_read_as_if_it_stood_alone(tmp_path: Path, family: str, attention: str) -> None:
    model, isolate = tiny_encoder(family), isolation_of(config_of(family))
    model.set_attn_implementation(attention)
    assert isolate == ("padded" if family == "modernbert" else "blocks")
    assert isolate == "padded" or not crosses_documents(model, isolate)
    rows = list(rows_of(tmp_path, family))
    batch = collator_of(family, masked=False)([Sample(0, index, row) for index, row in enumerate(rows)])
    del batch["labels"]
    with torch.no_grad():
        together = model(**batch).logits
        for index, row in enumerate(rows):
            begin = 0
            for piece in documents_of(row):
                alone = model(input_ids=torch.from_numpy(piece.astype(np.int64))[None]).logits[0]
                found = together[index, begin : begin + len(piece)]
                torch.testing.assert_close(found, alone, atol=2e-5, rtol=1e-4)
                begin += len(piece)


@pytest.mark.parametrize("family", sorted(PACKED_ENCODERS))
def test_every_family_that_is_packed_can_be(family: str) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "distilbert":
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "mask_token_id": 3}
    common = {"vocab_size": 188, "embedding_size": 32, "max_position_embeddings": 66, "initializer_range": 0.3}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **sizes, **ids, **common)
    model = AutoModelForMaskedLM.from_config(config).eval()
    assert isolation_of(config.to_dict()) == "blocks"
    draw = np.random.default_rng(0).integers(4, 188, 30).astype(np.int32)
    row = Row(draw, np.repeat([0, 1, 2], [20, 1, 9]).astype(np.int32), np.ones(30, bool))
    batch = Collator(1, "blocks", pad_to=33, first_position=first_position(config.to_dict()))([Sample(0, 0, row)])
    del batch["labels"]
    with torch.no_grad():
        together = model(**batch).logits[0]
        for number, piece in enumerate(documents_of(row)):
            alone = model(input_ids=torch.from_numpy(piece.astype(np.int64))[None]).logits[0]
            found = together[:30][torch.from_numpy(row.documents == number)]
            torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_the_check_finds_an_encoder_whose_windows_a_mask_of_ours_would_undo() -> None:
    assert crosses_documents(tiny_encoder("modernbert"), "blocks")
    assert crosses_documents(tiny_encoder("bert"), "positions")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_transformers(tmp_path: Path, family: str) -> None:
    """Packed rows, hidden states of the chosen positions alone, the head in chunks; against `model(labels=…).loss` of
    each document alone. The gradients too."""
    model = tiny_encoder(family).train()
    rows = list(rows_of(tmp_path, family))
    batch = collator_of(family)([Sample(3, index, row) for index, row in enumerate(rows)])
    model.zero_grad()
    ours = masked_token_loss(model, batch, chunk=7)
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs, count = torch.zeros(()), 0
    for index, row in enumerate(rows):
        begin = 0
        for piece in documents_of(row):
            inside = slice(begin, begin + len(piece))
            labels = batch["labels"][index, inside][None]
            learned = int((labels != NOT_TRAINED).sum())
            if learned:
                theirs = theirs + model(input_ids=batch["input_ids"][index, inside][None], labels=labels).loss * learned
            count += learned
            begin += len(piece)
    theirs.backward()
    assert MaskedToken().weight(batch) == count > 5
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4)
    model.eval()


def test_which_models_are_encoders() -> None:
    assert is_encoder({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    assert is_encoder({"model_type": "distilbert"})
    assert is_encoder({"model_type": "new", "architectures": ["NewForMaskedLM"]})
    assert not is_encoder({"model_type": "bert", "is_decoder": True})
    assert not is_encoder({"model_type": "roberta", "architectures": ["RobertaForCausalLM"]})
    assert not is_encoder(tiny_config("llama").to_dict())
    assert isinstance(objective_for(config_of("bert")), MaskedToken)
    assert isinstance(objective_for(tiny_config("llama").to_dict()), NextToken)


def test_rows_must_fit_the_table_of_positions(tmp_path: Path) -> None:
    """RoBERTa counts positions from 2, so 98 of them hold rows of 96 tokens."""
    tiny_encoder_checkpoint(tmp_path / "model", "roberta")
    small_corpus(tmp_path / "corpus")
    assert small_train(tmp_path, "fits", row_tokens=96, tokens=400)["steps"] == 1
    with pytest.raises(CannotRunHere, match="96 positions"):
        small_train(tmp_path, "too-long", row_tokens=97)
    with pytest.raises(CannotRunHere, match="use type mlm"):
        small_train(tmp_path, "causal", masking={"type": "causal"})


def test_the_plan_says_how_an_encoder_is_trained(tmp_path: Path) -> None:
    shape = read_shape(tiny_encoder_checkpoint(tmp_path, "roberta"))
    inputs = {
        "checkpoint": Forecast("checkpoint", shape.bytes, shape),
        "corpus": Forecast("corpus", 1000, tokens={"train": 5000, "valid": 300}),
    }

    def plan(**settings: Any) -> Plan:
        stage = TrainStage.model_validate({"row_tokens": 96, **settings})
        return stage.plan(inputs, Machine(2, 24 << 30, frozenset(), ()))

    assert not plan().problems
    assert any("masked tokens" in note for note in plan().notes)
    assert not any("masked tokens" in note for note in plan(masking={"type": "mlm"}).notes)
    assert any("use type mlm" in problem for problem in plan(masking={"type": "causal"}).problems)
    assert any("96 positions" in problem for problem in plan(row_tokens=97).problems)


FRESH = """
import sys
from transformers import AutoModelForMaskedLM, AutoTokenizer
for folder in sys.argv[1:]:
    model, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer("create only the " + tokenizer.mask_token, return_tensors="pt")
    print(type(model).__name__, *model(**text).logits.shape)
"""
LORA = {"type": "lora", "rank": 8}


@pytest.mark.slow
def test_trained_and_loaded_by_transformers_alone(tmp_path: Path) -> None:
    for family, adapter in (("bert", None), ("roberta", LORA), ("distilbert", LORA), ("modernbert", None)):
        place, monitor = tmp_path / family, Interrupting()
        tiny_encoder_checkpoint(place / "model", family)
        small_corpus(place / "corpus")
        metrics = small_train(place, "out", monitor, adapter=adapter, tokens=None, epochs=3, lr=1e-2)
        valid = [record["valid_loss"] for record in history_of(place, "out") if "valid_loss" in record]
        assert metrics["valid_loss"] == min(valid) < valid[0] - 0.05
        assert any("masking (mlm): 15 % of the words" in note for note in monitor.notes)
    folders = [str(tmp_path / family / "out/output") for family in FAMILIES]
    done = subprocess.run([sys.executable, "-c", FRESH, *folders], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [type(tiny_encoder(f)).__name__ for f in FAMILIES]

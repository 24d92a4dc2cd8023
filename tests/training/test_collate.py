"""The tensors of a batch, worked by hand."""

import numpy as np
import pytest
import torch

from llmtune.training.collate import Collator, Sample, block_mask, positions_in_documents
from llmtune.training.data import Row


def row(ids, documents, trained):
    return Row(np.array(ids, np.int32), np.array(documents, np.int32), np.array(trained, bool))


TWO = row([11, 12, 13, 21, 22], [0, 0, 0, 1, 1], [0, 1, 1, 0, 1])
ONE = row([31, 32, 33], [0, 0, 0], [0, 0, 1])
SAMPLES = [Sample(0, 5, TWO), Sample(0, 2, ONE)]


def test_worked_by_hand():
    batch = Collator(pad_id=9)(SAMPLES)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["input_ids"].tolist() == [[11, 12, 13, 21, 22], [31, 32, 33, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 12, 13, -100, 22], [-100, -100, 33, -100, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_target_that_equals_the_padding_token_stays_a_target():
    batch = Collator(pad_id=33)(SAMPLES)
    assert batch["labels"].tolist()[1] == [-100, -100, 33, -100, -100]


def test_fixed_length():
    batch = Collator(pad_id=9, pad_to=8)(SAMPLES)
    assert all(tensor.shape == (2, 8) for tensor in batch.values())
    assert batch["labels"][0, 5:].tolist() == [-100] * 3
    with pytest.raises(ValueError, match="does not fit"):
        Collator(pad_id=9, pad_to=4)(SAMPLES)


def test_explicit_mask_is_causal_and_block_diagonal():
    sees = block_mask(torch.tensor([[0, 0, 1, 1]]))[0, 0] == 0
    assert sees.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    batch = Collator(pad_id=9, isolate="mask")(SAMPLES)
    assert batch["attention_mask"].shape == (2, 1, 5, 5)
    assert torch.isfinite(batch["attention_mask"].bfloat16()).all()
    assert (batch["attention_mask"] == 0).any(-1).all()  # no query without a key


def test_a_model_that_cannot_be_kept_inside_a_document_refuses_packed_rows():
    with pytest.raises(ValueError, match="pack=False"):
        Collator(pad_id=9, isolate="rows")(SAMPLES)
    assert "attention_mask" not in Collator(pad_id=9, isolate="rows")(SAMPLES[1:])


def test_positions():
    assert positions_in_documents(np.array([0, 0, 1, 2, 2, 2])).tolist() == [0, 1, 0, 0, 1, 2]
    assert positions_in_documents(np.array([0])).tolist() == [0]

"""From rows to the tensors of one micro-batch: padding, labels, positions, and attention kept inside documents.

Inside one row several documents can lie behind each other. transformers (5 and later) derives the block-diagonal
attention mask from `position_ids` that restart, for eager, sdpa and flex attention alike, but only when

- no `attention_mask` is passed (so this collator passes none where positions suffice), and
- no cache is made: call the model with `use_cache=False`, or documents see each other without a word.

Padding is on the right and goes on as if it were the last document of its row: under a causal mask nothing before it
sees it, no query is left without a key (no NaN), and a batch of single documents keeps the fast path without a mask. An
encoder's tokens see what comes after them too, so there padding is a document of its own, or masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmtune.models.families import first_position
from llmtune.training.data import Row
from llmtune.training.isolation import IN_BOTH_DIRECTIONS, PACKED, Isolation
from llmtune.training.masking import Masker, Reading, masker_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmtune.training.settings import TrainSettings

NOT_TRAINED = -100  # the label that every loss of transformers leaves out


@dataclass(frozen=True)
class Sample:
    """One reading of one row. (epoch, index) name it, so that what is drawn for it (masking) can be seeded by them;
    epoch is None where the row is read to validate."""

    epoch: int | None
    index: int
    row: Row


@dataclass(frozen=True)
class Collator:
    """Makes one micro-batch of samples.

    pad_id:  any token id of the model's vocabulary; it is never trained on and seen by nothing
    isolate: how attention is kept inside documents, from `isolation_of(config)`
    pad_to:  make every batch this long (fixed shapes, for torch.compile); None: as long as its longest row
    masker:  hides part of the tokens; None: nothing is hidden
    first_position: the number of a document's first position, from `first_position(config)`
    """

    pad_id: int
    isolate: Isolation = "positions"
    pad_to: int | None = None
    masker: Masker | None = None
    first_position: int = 0

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The batch on CPU, B rows of T tokens:

        - `input_ids` (B, T) int64
        - `labels` (B, T) int64: the token itself where it is a target, else -100. Not shifted: the loss of the next
          token compares the output at t with the label at t+1, that of masked tokens the output and the label at t.
          The first token of a document is never a target.
        - `position_ids` (B, T) int64: from 0 in each document (RoBERTa: from 2); not with isolate "padded"
        - `attention_mask` (B, 1, T, T) float32, added to the attention scores: only with isolate "mask" and "blocks".
          Under bf16 or fp16 the model is called within autocast, which casts it. With "padded" (B, T) int64: 1 for a
          token, 0 for padding.
        """
        if not samples:
            raise ValueError("a batch needs at least one sample")
        longest = max(len(sample.row.input_ids) for sample in samples)
        length = self.pad_to or longest
        if longest > length:
            raise ValueError(f"a row of {longest} tokens does not fit the fixed batch length {length}")
        shape = (len(samples), length)
        input_ids = np.full(shape, self.pad_id, np.int64)
        labels = np.full(shape, NOT_TRAINED, np.int64)
        documents = np.empty(shape, np.int64)
        in_both_directions = self.isolate in IN_BOTH_DIRECTIONS
        for place, sample in enumerate(samples):
            row, n = sample.row, len(sample.row.input_ids)
            if row.documents[-1] and self.isolate not in PACKED:
                raise ValueError("this model cannot be kept inside a document: build its rows with pack=False")
            read = self._reading(sample)
            input_ids[place, :n] = read.input_ids
            labels[place, :n] = np.where(read.trained, row.input_ids, NOT_TRAINED)
            documents[place, :n] = row.documents
            documents[place, n:] = row.documents[-1] + in_both_directions
        batch = {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
        if self.isolate == "padded":
            batch["attention_mask"] = torch.from_numpy((documents == 0).astype(np.int64))
            return batch
        positions = np.stack([positions_in_documents(row) for row in documents])
        batch["position_ids"] = torch.from_numpy(positions + self.first_position)
        if self.isolate in ("mask", "blocks"):
            batch["attention_mask"] = block_mask(torch.from_numpy(documents), causal=not in_both_directions)
        return batch

    def _reading(self, sample: Sample) -> Reading:
        row = sample.row
        if self.masker is None:
            return Reading(row.input_ids, row.trained)
        return self.masker(row, sample.epoch, sample.index)


def collator_for(
    settings: TrainSettings,
    isolate: Isolation,
    tokenizer: PreTrainedTokenizerBase,
    config: Mapping[str, Any],
    seed: int,
) -> Collator:
    """The collator of a training with these settings and seed of the model with this `config.json`: batches of one
    length where the decoder is compiled for it. Raises LlmtuneError as `masker_for`."""
    return Collator(
        _pad_token(tokenizer),
        isolate,
        settings.row_tokens if settings.compile else None,
        masker_for(settings.masking, tokenizer, config, seed),
        first_position(config),
    )


def _pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any token will do: padding is neither seen nor trained."""
    return next(int(x) for x in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if x is not None)


def block_mask(documents_BT: Tensor, *, causal: bool = True) -> Tensor:
    """Attention inside documents, to be added to the scores: (B, T) document numbers → (B, 1, T, T) float32, 0 where a
    query (second last axis) sees a key (last axis). causal: only those before it and itself."""
    length = documents_BT.shape[1]
    sees_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    if causal:
        sees_BTT &= torch.ones(length, length).tril().bool()
    # the least bfloat16, so that a cast to it does not overflow
    hidden = torch.finfo(torch.bfloat16).min
    return torch.zeros(sees_BTT.shape).masked_fill(~sees_BTT, hidden)[:, None]


def positions_in_documents(documents: np.ndarray) -> np.ndarray:
    """Position of each token in its document, from 0: (n,) document numbers, equal and adjacent within one → (n,)."""
    places = np.arange(len(documents))
    starts = np.flatnonzero(np.diff(documents, prepend=documents[:1] - 1))
    return places - np.repeat(starts, np.diff(starts, append=len(documents)))

"""Which rows a training step reads: a pure function of the step number, so a resume needs nothing else.

Rows come in one endless sequence, epoch after epoch, each epoch a fresh shuffle; a step takes the next `batch_rows` of
it. So no row is read a second time before every row was read once, a batch may straddle two epochs, and an epoch's
last incomplete batch is completed by the next epoch rather than dropped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class SampleId(NamedTuple):
    """One reading of one row: `row` is its number, `epoch` counts from 0."""

    epoch: int
    row: int


@lru_cache(maxsize=2)  # a batch touches two epochs at most; an epoch of 25 M rows takes 200 MB
def epoch_order(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order in which `epoch` reads its rows: a permutation of 0 … rows-1, int64, read-only.

    Sorted by the raw bits of Philox keyed by (seed, epoch): numpy promises those bits for every version, which it does
    not for its `permutation`.
    """
    keys = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(rows)
    order = np.argsort(keys, kind="stable")
    order.setflags(write=False)
    return order


def rows_of_step(step: int, rows: int, batch_rows: int, seed: int) -> list[SampleId]:
    """The rows of one optimizer step, over all ranks and micro-batches, in order.

    step:       from 0
    rows:       how many there are (`len(rows)`), at least 1
    batch_rows: rows of the global batch; may exceed `rows`
    """
    if step < 0 or rows < 1 or batch_rows < 1 or seed < 0:
        raise ValueError(f"step {step}, rows {rows}, batch_rows {batch_rows} and seed {seed} must be positive")
    first = step * batch_rows
    taken: list[SampleId] = []
    while len(taken) < batch_rows:
        epoch, start = divmod(first + len(taken), rows)
        part = epoch_order(seed, epoch, rows)[start : start + batch_rows - len(taken)]
        taken.extend(SampleId(epoch, int(index)) for index in part)
    return taken

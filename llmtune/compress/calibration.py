"""Calibration rows: windows of the corpus' own documents, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.corpus.store import count, originals, read_split
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from torch import Tensor

# Documents looked at for each row wanted: short ones share a row, and more of them cover the domain better.
_DOCUMENTS_A_ROW = 4


def calibration_rows(
    corpus: Path,
    tokenizer: Any,
    rows: int,
    row_tokens: int,
    seed: int,
    monitor: Monitor | None = None,
    setting: str = "calibration.tokens",
) -> list[Tensor]:
    """At most `rows` tensors int64 (1, row_tokens) of text from the corpus' train split, tokenized as for training.

    Documents are drawn without repetition, none that augmentation made, unless the corpus has no others; each gives one
    window of at most `row_tokens` tokens at a random place, and the rest of it only when the windows do not fill the
    rows. Windows are joined by the end token, and each row starts with the tokens that open a sequence. Raises
    LlmtuneError, naming `setting`, when the text does not fill one row.
    """
    import torch

    from llmtune.training.tokenize import opening_tokens, tokenize

    monitor = monitor or Monitor()
    rng = random.Random(f"calibration {seed}")
    own = originals(corpus, "train") or range(count(corpus, "train"))
    chosen = set(rng.sample(own, min(len(own), rows * _DOCUMENTS_A_ROW)))
    windows: list[list[int]] = []
    leftovers: list[list[int]] = []
    for index, document in enumerate(read_split(corpus, "train")):
        if index not in chosen:
            continue
        monitor.safe_point()
        tokens = list(tokenize([document], tokenizer)[0][0])
        start = rng.randrange(max(1, len(tokens) - row_tokens + 1))
        windows.append(tokens[start : start + row_tokens])
        leftovers += [tokens[:start], tokens[start + row_tokens :]]
        if len(windows) == len(chosen):
            break
    rng.shuffle(windows)
    rng.shuffle(leftovers)
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    stream: list[int] = []
    for window in windows + leftovers:
        if len(stream) >= rows * row_tokens:
            break
        if window:
            stream += window if window[-1:] == end else window + end
    opening = opening_tokens(tokenizer)
    found = list(islice(_rows(stream, opening, row_tokens), rows))
    if not found:
        raise LlmtuneError(
            f"the corpus' train split holds {len(stream)} tokens, too few for one row of {row_tokens}",
            where=setting,
            fix=f"lower {setting}, or give the corpus more text",
        )
    return [torch.tensor([row], dtype=torch.long) for row in found]


def _rows(stream: list[int], opening: list[int], row_tokens: int) -> Iterator[list[int]]:
    """The stream in rows, each begun with `opening`; what does not fill a row is left out."""
    start = 0
    while True:
        added = [] if stream[start : start + len(opening)] == opening else opening
        end = start + row_tokens - len(added)
        if end > len(stream):
            return
        yield added + stream[start:end]
        start = end

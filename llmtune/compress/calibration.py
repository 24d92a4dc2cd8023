"""Calibration rows: windows of the corpus' own documents, drawn by a seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.corpus.store import Document, count, read_split
from llmtune.errors import LlmtuneError
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from torch import Tensor

# Documents looked at for each row wanted: short ones share a row, and more of them cover the domain better.
_DOCUMENTS_A_ROW = 4


def calibration_rows(
    corpus: Path, tokenizer: Any, rows: int, row_tokens: int, seed: int, monitor: Monitor | None = None
) -> list[Tensor]:
    """At most `rows` tensors int64 (1, row_tokens) of text from the corpus' train split.

    Documents are drawn without repetition; each gives one window of at most `row_tokens` tokens at a random place, and
    the rest of it only when the windows do not fill the rows. Documents are joined by the end token. Messages are
    rendered with the tokenizer's chat template. Raises LlmtuneError when the text does not fill one row.
    """
    import torch

    monitor = monitor or Monitor()
    rng = random.Random(f"calibration {seed}")
    total = count(corpus, "train")
    chosen = set(rng.sample(range(total), min(total, rows * _DOCUMENTS_A_ROW)))
    windows: list[list[int]] = []
    leftovers: list[list[int]] = []
    for index, document in enumerate(read_split(corpus, "train")):
        if index not in chosen:
            continue
        monitor.safe_point()
        tokens = _tokens(document, tokenizer)
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
            stream += window + end
    full = min(rows, len(stream) // row_tokens)
    if full == 0:
        raise LlmtuneError(
            f"the corpus' train split holds {len(stream)} tokens, too few for one calibration row of {row_tokens}",
            where="calibration",
            fix="lower calibration.tokens, or give the corpus more text",
        )
    return [torch.tensor([stream[i * row_tokens : (i + 1) * row_tokens]], dtype=torch.long) for i in range(full)]


def _tokens(document: Document, tokenizer: Any) -> list[int]:
    if document.messages is not None:
        turns = [{"role": message.role, "content": message.content} for message in document.messages]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    else:
        text = document.text or ""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

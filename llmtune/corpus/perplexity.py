"""How well a language model predicts the documents of a corpus, and which it predicts too well or too badly.

perplexity = exp(mean loss of the tokens behind the first), over the beginning of a document

The model runs in the one process of the build, on the accelerator if there is one. Losses are kept by the hash of the
text, so that a build which was killed, and one of more documents, reads only what is new.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from llmtune.corpus.drops import PERPLEXITY
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.filters.settings import PerplexitySettings
from llmtune.corpus.portions import KEPT, Judged
from llmtune.corpus.store import read_split
from llmtune.corpus.text import document_text
from llmtune.errors import CannotRunHere
from llmtune.files import fingerprint
from llmtune.machine import cpu_threads
from llmtune.models.find import identity, resolve
from llmtune.monitor import Monitor

_TOGETHER = 16  # documents read at a time
_CHARACTERS_A_TOKEN = 16  # more than text has, so that a long document is not tokenized whole


def drop_outside(
    entries: Sequence[Entry], portions: Sequence[Judged], settings: PerplexitySettings, folder: Path, monitor: Monitor
) -> None:
    """Mark the documents whose perplexity is outside the band. folder: where losses are kept. Raises LlmtuneError when
    the model is not to be found or cannot be read."""
    place = folder / f"perplexity-{fingerprint([identity(settings.model), settings.tokens])}"
    place.mkdir(parents=True, exist_ok=True)
    reader: _Reader | None = None
    with (
        closing(_Losses(place / "losses.sqlite")) as losses,
        monitor.bar("perplexity", len(entries), "documents") as bar,
    ):
        texts = (document_text(document) for one in portions for document in read_split(one.folder, KEPT))
        # Batches are those of all documents, whatever is known of some: the same sums after a kill as without one.
        both = zip(entries, texts, strict=True)
        while batch := list(islice(both, _TOGETHER)):
            hashes = [entry.sha256 for entry, _ in batch]
            if not losses.has(hashes):
                reader = reader or _Reader(settings, monitor)
                losses.add(dict(zip(hashes, reader([text for _, text in batch]), strict=True)))
            bar.advance(len(batch))
            monitor.safe_point()
        for entry in entries:
            loss = losses[entry.sha256]
            if loss is not None and (problem := _problem(math.exp(min(loss, 700.0)), settings)):
                entry.left_out = (PERPLEXITY, problem)


def _problem(perplexity: float, settings: PerplexitySettings) -> str:
    if settings.min is not None and perplexity < settings.min:
        return f"{perplexity:.4g}, below {settings.min:g}"
    if settings.max is not None and perplexity > settings.max:
        return f"{perplexity:.4g}, above {settings.max:g}"
    return ""


class _Losses:
    """Mean loss (nats a token; None of a text too short to have one) by the hash of a text, in a file."""

    def __init__(self, file: Path) -> None:
        self._base = sqlite3.connect(file, isolation_level=None, timeout=60)  # two builds may share it
        self._base.execute("CREATE TABLE IF NOT EXISTS losses (text TEXT PRIMARY KEY, loss REAL) WITHOUT ROWID")

    def close(self) -> None:
        self._base.close()

    def has(self, hashes: Sequence[str]) -> bool:
        """Whether all of them are known."""
        return all(self._row(one) is not None for one in hashes)

    def __getitem__(self, text: str) -> float | None:
        row = self._row(text)
        return None if row is None else row[0]

    def add(self, losses: Mapping[str, float | None]) -> None:
        """Keep a batch, wholly or not at all."""
        self._base.execute("BEGIN IMMEDIATE")
        self._base.executemany("INSERT OR IGNORE INTO losses VALUES (?, ?)", losses.items())
        self._base.execute("COMMIT")

    def _row(self, text: str) -> Any:
        return self._base.execute("SELECT loss FROM losses WHERE text = ?", (text,)).fetchone()


class _Reader:
    """Reads the beginnings of texts."""

    def __init__(self, settings: PerplexitySettings, monitor: Monitor) -> None:
        import torch

        from llmtune.models.families import is_encoder
        from llmtune.models.load import load_to_run, load_tokenizer
        from llmtune.models.shape import context_of

        folder, trust = resolve(settings.model, monitor), settings.model.trust_remote_code
        torch.set_num_threads(cpu_threads())
        self._model: Any = load_to_run(folder, trust_remote_code=trust)
        config = self._model.config.to_dict()
        if is_encoder(config):
            raise CannotRunHere(
                f"{settings.model.name} is an encoder, which predicts no next token",
                where="filters.perplexity.model",
                fix="name a causal language model",
            )
        self._tokenizer: Any = load_tokenizer(folder, trust_remote_code=trust)
        self._tokens = min(settings.tokens, context_of(config) or settings.tokens)

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """The mean loss of each, in nats a token; None of a text of one token or none."""
        short = [text[: _CHARACTERS_A_TOKEN * self._tokens] for text in texts]
        encoded = self._tokenizer(short, split_special_tokens=True, verbose=False)["input_ids"]
        ids = [one[: self._tokens] for one in encoded]
        # One product is large enough for a CPU, where padding would only be more work.
        together = len(ids) if self._model.device.type != "cpu" else 1
        return [loss for start in range(0, len(ids), together) for loss in self._losses(ids[start : start + together])]

    def _losses(self, ids: Sequence[list[int]]) -> list[float | None]:
        import torch
        from torch.nn.functional import cross_entropy

        longest = max(map(len, ids))
        if longest < 2:
            return [None] * len(ids)
        tokens_BT = torch.zeros(len(ids), longest, dtype=torch.long)
        mask_BT = torch.zeros_like(tokens_BT)
        for row, one in enumerate(ids):
            tokens_BT[row, : len(one)] = torch.tensor(one)
            mask_BT[row, : len(one)] = 1
        device = self._model.device
        with torch.inference_mode():
            logits_BTV = self._model(input_ids=tokens_BT.to(device), attention_mask=mask_BT.to(device)).logits
            return [
                cross_entropy(logits_BTV[row, : len(one) - 1].float(), tokens_BT[row, 1 : len(one)].to(device)).item()
                if len(one) > 1
                else None
                for row, one in enumerate(ids)
            ]

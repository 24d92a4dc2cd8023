"""How well a language model predicts the documents of a corpus, and which it predicts too well or too badly.

perplexity = exp(mean loss of the tokens behind the first), over the beginning of a document

The model runs in the one process of the build, on the accelerator if there is one. Losses are kept by the hash of the
text, so that a build which was killed, and one of more documents, reads only what is new.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from llmtune.corpus.drops import PERPLEXITY
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.filters.settings import PerplexitySettings
from llmtune.corpus.portions import KEPT, Judged
from llmtune.corpus.shelf import mark_used
from llmtune.corpus.store import read_split
from llmtune.corpus.text import document_text
from llmtune.corpus.version import VERSION
from llmtune.errors import CannotRunHere, LlmtuneError
from llmtune.files import fingerprint
from llmtune.machine import cpu_threads, this_machine
from llmtune.models.find import identity, resolve
from llmtune.monitor import Bar, Monitor

_TOGETHER = 16  # documents read at a time
_CHARACTERS_A_TOKEN = 16  # more than most text has, so that a long document is not tokenized whole
_PACKAGES = ("tokenizers", "torch", "transformers")  # that losses are made with


def drop_outside(
    entries: Sequence[Entry], portions: Sequence[Judged], settings: PerplexitySettings, folder: Path, monitor: Monitor
) -> None:
    """Mark the documents whose perplexity is outside the band. folder: where losses are kept. Raises LlmtuneError when
    the model is not to be found, cannot be read, or gives a loss that is no number."""
    place = folder / f"perplexity-{fingerprint(_made_of(settings))}"
    place.mkdir(parents=True, exist_ok=True)
    mark_used(place)
    reader: _Reader | None = None
    with (
        closing(_Losses(place / "losses.sqlite")) as losses,
        monitor.bar("perplexity", len(entries), "documents") as bar,
    ):
        unknown = _unknown(entries, portions, losses, bar, monitor)
        # As many at a time as always: the same sums after a kill as without one.
        while batch := list(islice(unknown, _TOGETHER)):
            reader = reader or _Reader(settings, monitor)
            found = reader([text for _, text in batch])
            for (entry, _), loss in zip(batch, found, strict=True):
                if loss is not None and not math.isfinite(loss):
                    raise _no_number(settings, entry, loss)
            losses.add({entry.sha256: loss for (entry, _), loss in zip(batch, found, strict=True)})
        for entry in entries:
            loss = losses[entry.sha256]
            if loss is not None and (problem := _problem(math.exp(min(loss, 700.0)), settings)):
                entry.left_out = (PERPLEXITY, problem)


def _made_of(settings: PerplexitySettings) -> list[Any]:
    """All that decides what a loss is, besides the text."""
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    on_cpu = "cpu, bf16" if this_machine().cpu_has_bf16 else "cpu, fp32"  # as `load_to_run`
    runs_on = device.type if device is not None else on_cpu
    return [identity(settings.model), settings.tokens, VERSION, [version(name) for name in _PACKAGES], runs_on]


def _unknown(
    entries: Sequence[Entry], portions: Sequence[Judged], losses: _Losses, bar: Bar, monitor: Monitor
) -> Iterator[tuple[Entry, str]]:
    """The documents whose loss is not known, with their texts; of the same text the first."""
    documents = (document for one in portions for document in read_split(one.folder, KEPT))
    given: set[str] = set()
    for entry, document in zip(entries, documents, strict=True):
        monitor.safe_point()
        bar.advance()
        if entry.sha256 not in given and entry.sha256 not in losses:
            given.add(entry.sha256)
            yield entry, document_text(document)


def _problem(perplexity: float, settings: PerplexitySettings) -> str:
    if settings.min is not None and perplexity < settings.min:
        return f"{perplexity:.4g}, below {settings.min:g}"
    if settings.max is not None and perplexity > settings.max:
        return f"{perplexity:.4g}, above {settings.max:g}"
    return ""


def _no_number(settings: PerplexitySettings, entry: Entry, loss: float) -> LlmtuneError:
    return LlmtuneError(
        f"{settings.model.name} gives the document {entry.id} a loss of {loss}",
        where="filters.perplexity.model",
        fix="its weights may be damaged, or too large for the number format they are stored in; name another model, or "
        "leave the document out (`exclude`) if it is the only one",
    )


class _Losses:
    """Mean loss (nats a token; None of a text too short to have one) by the hash of a text, in a file. One that is
    damaged is begun anew."""

    def __init__(self, file: Path) -> None:
        try:
            self._base = _opened(file)
        except sqlite3.OperationalError:  # nothing wrong with the file: locked, no room, …
            raise
        except sqlite3.DatabaseError:
            for part in file.parent.glob(f"{file.name}*"):
                part.unlink(missing_ok=True)
            self._base = _opened(file)

    def close(self) -> None:
        self._base.close()

    def __contains__(self, text: str) -> bool:
        return self._row(text) is not None

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


def _opened(file: Path) -> sqlite3.Connection:
    """The database in a file. Raises sqlite3.DatabaseError where it is damaged."""
    base = sqlite3.connect(file, isolation_level=None, timeout=60)  # two builds may share it
    try:
        base.execute("CREATE TABLE IF NOT EXISTS losses (text TEXT PRIMARY KEY, loss REAL) WITHOUT ROWID")
        (found,) = base.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except BaseException:
        base.close()
        raise
    return base


class _Reader:
    """Reads the beginnings of texts."""

    def __init__(self, settings: PerplexitySettings, monitor: Monitor) -> None:
        import torch

        from llmtune.models.families import encoder_problem
        from llmtune.models.load import load_to_run, load_tokenizer
        from llmtune.models.shape import context_of, read_config

        folder, trust = resolve(settings.model, monitor), settings.model.trust_remote_code
        if problem := encoder_problem(read_config(folder), "`filters.perplexity`"):
            raise CannotRunHere(problem, where="filters.perplexity.model", fix="name a causal language model")
        torch.set_num_threads(cpu_threads())
        self._model: Any = load_to_run(folder, trust_remote_code=trust)
        self._tokenizer: Any = load_tokenizer(folder, trust_remote_code=trust)
        context = context_of(self._model.config.to_dict())
        self._tokens = min(settings.tokens, context or settings.tokens)

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """The mean loss of each, in nats a token; None of a text of one token or none."""
        ids = self._beginnings(texts)
        # One product is large enough for a CPU, where padding would only be more work.
        together = len(ids) if self._model.device.type != "cpu" else 1
        return [loss for start in range(0, len(ids), together) for loss in self._losses(ids[start : start + together])]

    def _beginnings(self, texts: Sequence[str]) -> list[list[int]]:
        """The first tokens of each text, of which no more is tokenized than needs be."""
        characters = _CHARACTERS_A_TOKEN * self._tokens
        ids = self._encoded([text[:characters] for text in texts])
        # A page of rules and blanks has more characters a token.
        while short := [
            row for row, text in enumerate(texts) if len(ids[row]) <= self._tokens and characters < len(text)
        ]:
            characters *= 4
            for row, more in zip(short, self._encoded([texts[row][:characters] for row in short]), strict=True):
                ids[row] = more
        return [one[: self._tokens] for one in ids]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._tokenizer(texts, split_special_tokens=True, verbose=False)["input_ids"])

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

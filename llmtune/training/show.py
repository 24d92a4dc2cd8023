"""What the model sees: batches of the real collator as text for a terminal, and what padding costs.

    for part in show_batches(rows, collate, tokenizer, batches=2, batch_rows=4, seed=7):
        rich.print(part)

Everything is read off the collator's own tensors: a target is what `labels` says, a document starts where
`position_ids` restart, and what is masked differs from the row's own tokens (show_masking.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmtune.training.collate import NOT_TRAINED, Collator, Sample
from llmtune.training.data import Rows
from llmtune.training.masking import MASKED, REPLACED, Masker
from llmtune.training.order import SampleId, rows_of_step
from llmtune.training.show_masking import masking_legend, render_two_epochs
from llmtune.training.show_text import BORDER, CONTEXT, PADDING, TRAINED, document_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class BatchFigures:
    """Counts over one batch or several.

    slots:   B × T, the tokens the model computes
    tokens:  of documents; the rest of the slots is padding
    trained: targets
    masked:  tokens that the model does not see, or sees another one for
    padding_if_padded: padding, had each document a row of its own, in batches of as many rows, padded to the longest
    """

    rows: int
    documents: int
    slots: int
    tokens: int
    trained: int
    masked: int
    padding_if_padded: int

    @property
    def padding(self) -> int:
        """Slots that hold no document."""
        return self.slots - self.tokens

    @property
    def waste_if_padded(self) -> float:
        """Share of the slots that padding would take without packing."""
        return self.padding_if_padded / (self.tokens + self.padding_if_padded)

    def __add__(self, other: BatchFigures) -> BatchFigures:
        return BatchFigures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def measure(batch: dict[str, Tensor], samples: Sequence[Sample]) -> BatchFigures:
    """Figures of the batch that was made of these samples."""
    rows, length = batch["input_ids"].shape
    lengths = [len(sample.row.input_ids) for sample in samples]
    read = [batch["input_ids"][row, :size].numpy() for row, size in enumerate(lengths)]
    documents = [size for row in range(rows) for size in document_lengths(batch, row, lengths[row])]
    groups = [documents[first : first + rows] for first in range(0, len(documents), rows)]
    padded = sum(max(group) * len(group) for group in groups)
    return BatchFigures(
        rows=rows,
        documents=len(documents),
        slots=rows * length,
        tokens=sum(lengths),
        trained=int((batch["labels"] != NOT_TRAINED).sum()),
        masked=sum(int((ids != sample.row.input_ids).sum()) for ids, sample in zip(read, samples, strict=True)),
        padding_if_padded=padded - sum(documents),
    )


def document_lengths(batch: dict[str, Tensor], row: int, tokens: int) -> list[int]:
    """Tokens of each document in a row of a batch, in order; the row's padding left out."""
    if "position_ids" not in batch:  # one document a row
        return [tokens]
    positions = batch["position_ids"][row, :tokens].numpy()
    starts = np.flatnonzero(positions == positions[0])
    return [int(size) for size in np.diff(starts, append=tokens)]


def show_batches(
    rows: Rows,
    collate: Collator,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batches: int,
    batch_rows: int,
    micro_batch: int,
    seed: int,
    document_tokens: int | None = 160,
    plain: bool = False,
    tokens_per_second: float | None = None,
) -> Iterator[RenderableType]:
    """A legend, the first `batches` batches of training as the model gets them, and the figures.

    batch_rows:        rows of one optimizer step
    micro_batch:       rows of one batch, of which a step makes several
    seed:              of the order of rows, as in training
    document_tokens:   show at most so many tokens of a document (its beginning and end); None: all
    plain:             mark context and padding by signs too, for output without colours
    tokens_per_second: speed of training, padding counted; adds what of it padding takes
    """
    yield legend(plain) if collate.masker is None else masking_legend(collate.masker, tokenizer, plain)
    total = BatchFigures(0, 0, 0, 0, 0, 0, 0)
    for number, (step, ids) in enumerate(islice(_micro_batches(len(rows), batch_rows, micro_batch, seed), batches), 1):
        samples = [Sample(epoch, index, rows[index]) for epoch, index in ids]
        batch = collate(samples)
        total += measure(batch, samples)
        for place, (sample, (epoch, index)) in enumerate(zip(samples, ids, strict=True)):
            title = f"batch {number}, step {step + 1}, epoch {epoch + 1}, row {index}"
            if collate.masker is None:
                yield render_row(batch, place, len(sample.row.input_ids), tokenizer, title, document_tokens, plain)
            else:
                yield render_two_epochs(collate, sample, tokenizer, title, document_tokens, plain)
    yield figures_table(rows, total, batches, tokens_per_second, collate.masker)


def _micro_batches(rows: int, batch_rows: int, micro_batch: int, seed: int) -> Iterator[tuple[int, list[SampleId]]]:
    """The step (from 0) and rows of each batch, without end, as one process trains on them."""
    for step in count():
        ids = rows_of_step(step, rows, batch_rows, seed)
        for first in range(0, batch_rows, micro_batch):
            yield step, ids[first : first + micro_batch]


def legend(plain: bool = False) -> Text:
    """One line that says what the colours (and signs, if `plain`) mean."""
    return Text.assemble(
        ("trained", TRAINED),
        "  ",
        ("‹context: seen, not trained›" if plain else "context: seen, not trained", CONTEXT),
        "  ",
        ("padding", PADDING),
        "  ",
        ("▌1 ", BORDER),
        " a document begins; no attention crosses it",
    )


def render_row(
    batch: dict[str, Tensor],
    row: int,
    tokens: int,
    tokenizer: PreTrainedTokenizerBase,
    title: str,
    document_tokens: int | None = None,
    plain: bool = False,
) -> Panel:
    """One row of a batch: its text in the colours of the legend, under a title with its counts."""
    ids = batch["input_ids"][row].numpy()
    trained = batch["labels"][row].numpy() != NOT_TRAINED
    text = Text()
    begin = 0
    sizes = document_lengths(batch, row, tokens)
    for number, size in enumerate(sizes, 1):
        text.append("\n" if number > 1 else "").append(f"▌{number} ", BORDER)
        inside = slice(begin, begin + size)
        kinds = np.where(trained[inside], TRAINED, CONTEXT)
        text.append_text(document_text(ids[inside], kinds, tokenizer, document_tokens, plain))
        begin += size
    padding = len(ids) - tokens
    if padding:
        text.append(f"\n▒ {padding} tokens of padding", PADDING)
    documents = "1 document" if len(sizes) == 1 else f"{len(sizes)} documents"
    counts = f"{documents}, {tokens} tokens, {int(trained.sum())} trained, {padding} padding"
    return Panel(text, title=f"{title}: {counts}", title_align="left", border_style="dim")


def figures_table(
    rows: Rows,
    shown: BatchFigures,
    batches: int,
    tokens_per_second: float | None = None,
    masker: Masker | None = None,
) -> Group:
    """The figures of the batches shown, beside those of all rows (of masks: what to expect), and what padding costs."""
    counts, room = rows.counts, len(rows) * rows.row_tokens
    table = Table(title="Figures", title_justify="left")
    table.add_column("")
    table.add_column(f"{batches} batch{'es' if batches != 1 else ''} shown", justify="right")
    table.add_column("all rows", justify="right")
    saved_all = counts.tokens + rows.padding_if_padded
    trained = counts.trained * (masker.settings.ratio if masker and masker.settings.type == "mlm" else 1)
    masks = []
    if masker is not None:
        part = masker.settings.ratio * (MASKED + REPLACED if masker.settings.type == "mlm" else 1)
        expected = f"about {part * counts.trained / counts.tokens:.1%}"
        masks.append(("masked", f"{shown.masked / shown.tokens:.1%}", expected))
    for name, here, everywhere in (
        ("rows", f"{shown.rows:,}", f"{len(rows):,}"),
        ("documents and pieces of documents", f"{shown.documents:,}", f"{counts.pieces:,}"),
        ("tokens", f"{shown.tokens:,}", f"{counts.tokens:,}"),
        ("fill", f"{shown.tokens / shown.slots:.1%}", f"{counts.tokens / room:.1%}"),
        ("trained", f"{shown.trained / shown.tokens:.1%}", f"{trained / counts.tokens:.1%}"),
        *masks,
        ("padding", f"{shown.padding:,}", f"{room - counts.tokens:,}"),
        ("padding, were documents not packed", f"{shown.padding_if_padded:,}", f"{rows.padding_if_padded:,}"),
        ("… as a share of the speed", f"{shown.waste_if_padded:.1%}", f"{rows.padding_if_padded / saved_all:.1%}"),
    ):
        table.add_row(name, here, everywhere)
    lines = [*_left_out(rows)]
    if tokens_per_second is not None:
        lost = tokens_per_second * shown.padding / shown.slots
        would = tokens_per_second * shown.waste_if_padded
        lines.append(
            f"Of {tokens_per_second:,.0f} tokens/s padding takes {lost:,.0f}; unpacked it would take {would:,.0f}."
        )
    return Group(table, *(Text(line, "dim") for line in lines))


def _left_out(rows: Rows) -> Iterator[str]:
    """A sentence for each way in which text was cut or left out."""
    counts = rows.counts
    if counts.cut_documents:
        yield f"{counts.cut_documents:,} documents are longer than a row of {rows.row_tokens} tokens and were cut."
    if counts.shortened:
        yield f"{counts.shortened:,} conversations are longer than a row; what lies beyond it was left out."
    if counts.dropped_documents:
        yield f"{counts.dropped_documents:,} documents have nothing to train on and were left out."

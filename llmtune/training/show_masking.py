"""What masking hides: a row's text beside what the model reads of it in two epochs, from the collator itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmtune.training.collate import NOT_TRAINED, Collator, Sample
from llmtune.training.show_text import BORDER, CONTEXT, LEFT, MASKED, REPLACED, SEEN, TRAINED, document_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmtune.training.data import Row
    from llmtune.training.masking import Masker


def masking_legend(masker: Masker, tokenizer: PreTrainedTokenizerBase, plain: bool = False) -> Text:
    """One line that says what the colours (and signs, if `plain`) mean."""
    blocks, token = ("░░░░", MASKED), tokenizer.convert_ids_to_tokens(masker.token)
    if masker.settings.type == "causal":
        context = "‹context: seen, not trained›" if plain else "context: seen, not trained"
        masked = f" masked: trained, but the model reads {token}"
        return Text.assemble(("trained", TRAINED), "  ", (context, CONTEXT), "  ", blocks, masked)
    replaced, left = ("{replaced}", "[left as it is]") if plain else ("replaced", "left as it is")
    masked = f" masked: the model reads {token}  "
    return Text.assemble("trained: ", blocks, masked, (replaced, REPLACED), "  ", (left, LEFT))


def render_two_epochs(
    collate: Collator,
    sample: Sample,
    tokenizer: PreTrainedTokenizerBase,
    title: str,
    document_tokens: int | None = None,
    plain: bool = False,
) -> Panel:
    """One row: its text, and how it is read in the sample's epoch and in the next one, document beside document."""
    masker, epoch, row = collate.masker, sample.epoch, sample.row
    assert masker is not None
    assert epoch is not None
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bold")
    table.add_column("text", ratio=1)
    columns = [np.full(len(row.input_ids), SEEN)]
    read = [row.input_ids]
    for turn in (epoch, epoch + 1):
        ids, trained = _read(collate, Sample(turn, sample.index, row))
        kinds = _kinds(masker, row, ids, trained)
        table.add_column(f"epoch {turn + 1}: {_counts(kinds)}", ratio=1)
        read.append(np.where(kinds == MASKED, row.input_ids, ids))
        columns.append(kinds)
    for number in range(int(row.documents[-1]) + 1):
        inside = row.documents == number
        table.add_row(
            *(
                Text(f"▌{number + 1} ", BORDER).append_text(
                    document_text(ids[inside], kinds[inside], tokenizer, document_tokens, plain)
                )
                for ids, kinds in zip(read, columns, strict=True)
            )
        )
    documents = "1 document" if len(table.rows) == 1 else f"{len(table.rows)} documents"
    counts = f"{documents}, {len(row.input_ids)} tokens"
    return Panel(table, title=f"{title}: {counts}", title_align="left", border_style="dim")


def _read(collate: Collator, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) and which are targets (n,), as the collator gives them."""
    batch, tokens = collate([sample]), len(sample.row.input_ids)
    return batch["input_ids"][0, :tokens].numpy(), batch["labels"][0, :tokens].numpy() != NOT_TRAINED


def _kinds(masker: Masker, row: Row, ids: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """The style of each token of a reading."""
    changed = ids != row.input_ids
    if masker.settings.type == "causal":
        return np.where(changed, MASKED, np.where(trained, TRAINED, CONTEXT))
    hidden = np.where(ids == masker.token, MASKED, REPLACED)
    return np.where(changed, hidden, np.where(trained, LEFT, SEEN))


def _counts(kinds: np.ndarray) -> str:
    """How many tokens are of each kind that masking makes, and their part of all."""
    found = [(int((kinds == kind).sum()), name) for kind, name in _NAMES.items()]
    told = ", ".join(f"{count} {name}" for count, name in found if count)
    return f"{told or 'none masked'} ({sum(count for count, _ in found) / len(kinds):.1%})"


_NAMES = {MASKED: "masked", REPLACED: "replaced", LEFT: "left"}

"""What `show-batch` prints: the collator's own tensors, and figures worked by hand."""

import numpy as np
import pytest
from rich.console import Console

from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row, build_rows
from llmtune.training.show import CONTEXT, TRAINED, measure, render_row, show_batches
from tests.tiny import TEXT, tiny_tokenizer
from tests.training.corpora import chat, corpus_of, text


def row(sizes):
    documents = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return Row(np.full(len(documents), 40, np.int32), documents, np.diff(documents, prepend=-1) == 0)


def printed(*parts):
    console = Console(width=200, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    for part in parts:
        console.print(part)
    return console.export_text()


def test_figures_worked_by_hand():
    samples = [Sample(0, 0, row([6, 3, 1])), Sample(0, 1, row([4, 4]))]
    figures = measure(Collator(pad_id=1)(samples), [10, 8])
    # unpacked, two a batch: (6, 3), (1, 4), (4): 12 + 8 + 4 = 24 slots for 18 tokens
    assert (figures.rows, figures.documents, figures.slots, figures.tokens) == (2, 5, 20, 18)
    assert (figures.padding, figures.padding_if_padded, figures.trained) == (2, 6, 13)
    assert figures.waste_if_padded == 0.25


def test_colours_follow_the_labels():
    tokenizer = tiny_tokenizer()
    rows_ids = np.array([*tokenizer("abc")["input_ids"], *tokenizer("xyz")["input_ids"]], np.int32)
    assert len(rows_ids) == 6
    one = Row(rows_ids, np.array([0, 0, 0, 1, 1, 1], np.int32), np.array([0, 1, 1, 0, 0, 1], bool))
    batch = Collator(pad_id=1, pad_to=8)([Sample(0, 0, one)])
    panel = render_row(batch, 0, 6, tokenizer, "row")
    styled = [(panel.renderable.plain[span.start : span.end], span.style) for span in panel.renderable.spans]
    assert [part for part in styled if part[1] in {TRAINED, CONTEXT}] == [
        ("a", CONTEXT), ("bc", TRAINED), ("xy", CONTEXT), ("z", TRAINED),
    ]  # fmt: skip
    assert "2 documents, 6 tokens, 3 trained, 2 padding" in panel.title


@pytest.mark.parametrize("most", [None, 8])
def test_batches_of_a_corpus(tmp_path, most):
    tokenizer = tiny_tokenizer()
    folder = corpus_of(
        tmp_path, *(text(str(i), t) for i, t in enumerate(TEXT)), chat("c", ("user", "Why?"), ("assistant", "So."))
    )
    rows = build_rows(folder, "train", tokenizer, 100)
    parts = show_batches(
        rows, Collator(pad_id=1), tokenizer, batches=1, batch_rows=len(rows), micro_batch=99, seed=0,
        document_tokens=most, plain=True, tokens_per_second=1000,
    )  # fmt: skip
    out = printed(*parts)
    assert out.count("▌") == rows.counts.pieces + 1  # and the legend
    assert most or "So.<|im_end|>" in out
    assert "‹<|im_start|>user⏎" in out
    assert ("tokens …" in out) == (most is not None)
    assert "Of 1,000 tokens/s padding takes" in out
    assert f"{rows.counts.fill:.1%}" in out

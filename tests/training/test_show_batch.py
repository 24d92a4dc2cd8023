"""What `show-batch` prints: the collator's own tensors, and figures worked by hand."""

import numpy as np
import pytest
from rich.console import Console

from llmtune.training.collate import Collator, Sample
from llmtune.training.data import Row, build_rows
from llmtune.training.isolation import isolation_of
from llmtune.training.masking import masker_for
from llmtune.training.settings import MaskingSettings
from llmtune.training.show import measure, render_row, show_batches
from llmtune.training.show_masking import render_two_epochs
from llmtune.training.show_pairs import pairs_table
from llmtune.training.show_text import CONTEXT, LEFT, MASKED, REPLACED, TRAINED
from tests.tiny import TEXT, UNKNOWN, tiny_config, tiny_tokenizer
from tests.tiny_encoders import tiny_encoder, tiny_wordpiece
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
    figures = measure(Collator(pad_id=1)(samples), samples)
    # unpacked, two a batch: (6, 3), (1, 4), (4): 12 + 8 + 4 = 24 slots for 18 tokens
    assert (figures.rows, figures.documents, figures.slots, figures.tokens) == (2, 5, 20, 18)
    assert (figures.padding, figures.padding_if_padded, figures.trained, figures.masked) == (2, 6, 13, 0)
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


def shown_columns(collate, row, tokenizer):
    """The text of each column of a row's table, and the runs of it with their styles."""
    panel = render_two_epochs(collate, Sample(0, 3, row), tokenizer, "row")
    columns = []
    for column in panel.renderable.columns:
        cells = list(column.cells)
        runs = [(cell.plain[span.start : span.end], span.style) for cell in cells for span in cell.spans]
        columns.append((column.header, "".join(cell.plain for cell in cells), runs))
    return columns


def test_two_epochs_beside_the_text(tmp_path):
    """What is hidden in each epoch is what the collator hides; everything else reads as the text does."""
    tokenizer = tiny_tokenizer()
    masking = MaskingSettings(type="causal", ratio=0.3, token=UNKNOWN)
    collate = Collator(1, masker=masker_for(masking, tokenizer, tiny_config("llama").to_dict(), 5))
    row = build_rows(corpus_of(tmp_path, text("a", TEXT[0]), text("b", TEXT[1])), "train", tokenizer, 200)[0]
    (_, whole, _), *epochs = shown_columns(collate, row, tokenizer)
    assert TEXT[0] in whole
    assert TEXT[1] in whole
    masks = []
    for epoch, (header, shown, runs) in enumerate(epochs):
        read = collate([Sample(epoch, 3, row)])["input_ids"][0].numpy()
        masks.append(np.flatnonzero(read != row.input_ids).tolist())
        assert f"epoch {epoch + 1}: {len(masks[-1])} masked" in header
        assert len(shown) == len(whole)
        assert all(mark in ("░", stood) for mark, stood in zip(shown, whole, strict=True))
        hidden = "".join(run for run, style in runs if style == MASKED).replace(" ", "")
        assert set(hidden) == {"░"}
        assert len(hidden) == len(
            "".join(tokenizer.decode([row.input_ids[place]]) for place in masks[-1]).replace(" ", "")
        )
    assert masks[0] != masks[1]


def test_words_of_an_encoder_masked_replaced_and_left(tmp_path):
    tokenizer, config = tiny_wordpiece(), tiny_encoder("bert").config.to_dict()
    masker = masker_for(MaskingSettings(type="mlm", ratio=0.6), tokenizer, config, 5)
    collate = Collator(0, isolation_of(config), masker=masker)
    rows = build_rows(corpus_of(tmp_path, text("a", " ".join(TEXT))), "train", tokenizer, 400, framed=True)
    (_, whole, _), *epochs = shown_columns(collate, rows[0], tokenizer)
    assert "[CLS] the planner estimates" in whole
    for _, shown, runs in epochs:
        assert {MASKED, REPLACED, LEFT} <= {style for _, style in runs}
        assert "[CLS]" in shown
        assert "[MASK]" not in shown
    out = printed(*show_batches(rows, collate, tokenizer, batches=1, batch_rows=1, micro_batch=1, seed=0, plain=True))
    assert "the model reads [MASK]  {replaced}  [left as it is]" in out
    assert f"about {0.9 * 0.6 * rows.counts.trained / rows.counts.tokens:.1%}" in out


def test_augmented_texts_beside_their_originals():
    long = " ".join(TEXT * 4)
    pairs = [(text("0", TEXT[0]), text("0-made", TEXT[0].upper())), (text("1", long), text("1-made", "[short]"))]
    out = printed(pairs_table(pairs))
    assert TEXT[0] in out
    assert TEXT[0].upper() in out
    assert "[short]" in out
    assert " …" in out
    assert " …" not in printed(pairs_table(pairs, whole=True))

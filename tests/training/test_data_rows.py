"""Rows: every token of every document once, targets where they belong, the same files however often one starts."""

import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtune.errors import LlmtuneError, Stopped
from llmtune.files import content_fingerprint
from llmtune.monitor import Monitor
from llmtune.training import tokenize as tokenizing
from llmtune.training.data import build_rows
from llmtune.training.tokenize import opening_tokens, tokenize
from tests.tiny import EOS, TEXT, tiny_tokenizer
from tests.training.corpora import chat, corpus_of, text

WORDS = st.text(st.sampled_from("abc the é\n"), min_size=1, max_size=60)


def contents(rows):
    """Ids of each document piece of each row, with its targets."""
    for row in rows:
        for number in range(int(row.documents[-1]) + 1):
            inside = row.documents == number
            yield row.input_ids[inside].tolist(), row.trained[inside]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, min_size=1, max_size=20), st.integers(4, 40), st.booleans(), st.booleans())
def test_every_token_of_every_document_stands_once_in_the_rows(tmp_path_factory, texts, row_tokens, pack, bos):
    tokenizer = tiny_tokenizer(add_bos=bos)
    folder = corpus_of(tmp_path_factory.mktemp("corpus"), *(text(str(i), t) for i, t in enumerate(texts)))
    rows = build_rows(folder, "train", tokenizer, row_tokens, pack=pack)
    expected = defaultdict(int)
    for content in texts:
        ids = [*([0] if bos else []), *tokenizer(content, add_special_tokens=False)["input_ids"], 3]
        for begin in range(0, len(ids), row_tokens):
            piece = tuple(ids[begin : begin + row_tokens])
            expected[piece] += len(piece) > 1  # a lone token has no target
    found = defaultdict(int)
    for ids, trained in contents(rows):
        found[tuple(ids)] += 1
        assert not trained[0]
        assert trained[1:].all()
    assert found == {piece: times for piece, times in expected.items() if times}
    assert rows.tokens == sum(len(row.input_ids) for row in rows)
    assert rows.trained_tokens == sum(int(row.trained.sum()) for row in rows)
    assert max(len(row.input_ids) for row in rows) <= row_tokens
    if not pack:
        assert all(row.documents.max() == 0 for row in rows)


def test_counts_are_worked_by_hand(tmp_path):
    tokenizer = tiny_tokenizer()
    # "zq" pairs never merge in the tiny vocabulary: two tokens a pair, and the end token
    folder = corpus_of(tmp_path, text("a", "zq" * 10), text("b", "zq" * 2), text("c", ""), text("d", "zq" * 3))
    assert len(tokenizer("zq" * 10)["input_ids"]) == 20
    rows = build_rows(folder, "train", tokenizer, 10)
    counts = rows.counts
    # a: 21 tokens in 10 + 10 + 1, the last of which has no target; b: 5, c: 1 (no target), d: 7
    assert [len(row.input_ids) for row in rows] == [10, 10, 7, 5]
    assert (counts.documents, counts.pieces, counts.tokens, counts.trained) == (3, 4, 32, 28)
    assert (counts.cut_documents, counts.dropped_documents, counts.dropped_tokens) == (1, 1, 2)
    assert counts.fill == 32 / 40
    assert rows.padding_if_padded == 4 * 10 - 32


def test_documents_end_with_the_end_token_and_start_by_the_tokenizers_own_convention():
    for bos, expected in ((True, [0]), (False, [])):
        tokenizer = tiny_tokenizer(add_bos=bos)
        assert opening_tokens(tokenizer) == expected
        ids, trained = tokenize([text("a", TEXT[0])], tokenizer)[0]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[len(expected) : -1]) == TEXT[0]
        assert trained.tolist() == [False] + [True] * (len(ids) - 1)


def test_control_tokens_written_in_a_document_stay_text():
    tokenizer = tiny_tokenizer()
    ids, _ = tokenize([text("a", f"The token {EOS} ends a turn.")], tokenizer)[0]
    assert list(ids).count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[:-1]) == f"The token {EOS} ends a turn."


def test_batches_of_documents_do_not_change_their_tokens(tmp_path):
    tokenizer = tiny_tokenizer()
    documents = [text("0", TEXT[0]), chat("1", ("user", "a"), ("assistant", "b")), text("2", TEXT[1])]
    together = tokenize(documents, tokenizer)
    alone = [tokenize([document], tokenizer)[0] for document in documents]
    for (ids, trained), (ids_alone, trained_alone) in zip(together, alone, strict=True):
        assert list(ids) == list(ids_alone)
        assert trained.tolist() == trained_alone.tolist()


class StopAfter(Monitor):
    def __init__(self, questions):
        self.questions = questions

    def stop_requested(self):
        self.questions -= 1
        return self.questions < 0


def test_stopped_anywhere_it_goes_on_to_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "PART_CHARACTERS", 400)
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 100)
    tokenizer = tiny_tokenizer()
    folder = corpus_of(tmp_path / "corpus", *(text(str(i), TEXT[i % len(TEXT)] * (1 + i % 3)) for i in range(40)))
    build_rows(folder, "train", tokenizer, 32, cache=tmp_path / "whole")
    stops = 0
    for questions in range(3, 40, 4):
        try:
            build_rows(folder, "train", tokenizer, 32, cache=tmp_path / "pieces", monitor=StopAfter(questions))
        except Stopped:
            stops += 1
    assert stops >= 2
    rows = build_rows(folder, "train", tokenizer, 32, cache=tmp_path / "pieces")
    for left in (tmp_path / "pieces").rglob(".*.tmp"):
        left.rename(tmp_path / f"left-{left.name}")
    assert content_fingerprint([tmp_path / "pieces"]) == content_fingerprint([tmp_path / "whole"])
    assert len(list((tmp_path / "whole").glob("*/tokens/0*"))) > 3
    assert rows.counts.documents == 40


def test_two_processes_that_tokenize_at_once_make_the_same_files(tmp_path, monkeypatch):
    """The other one makes all that is left while this one is about to make its second part."""
    monkeypatch.setattr(tokenizing, "PART_CHARACTERS", 400)
    tokenizer, made_whole = tiny_tokenizer(), tokenizing.made_whole
    folder = corpus_of(tmp_path / "corpus", *(text(str(i), TEXT[i % len(TEXT)] * (1 + i % 3)) for i in range(40)))
    build_rows(folder, "train", tokenizer, 32, cache=tmp_path / "alone")

    def made_meanwhile(place, make):
        if place.name == "00001":
            monkeypatch.setattr(tokenizing, "made_whole", made_whole)
            tokenizing.tokenize_split(folder, "train", tokenizer, place.parent, Monitor())
        return made_whole(place, make)

    monkeypatch.setattr(tokenizing, "made_whole", made_meanwhile)
    build_rows(folder, "train", tokenizer, 32, cache=tmp_path / "both")
    assert tokenizing.made_whole is made_whole
    assert content_fingerprint([tmp_path / "both"]) == content_fingerprint([tmp_path / "alone"])


def test_the_cache_is_used_and_follows_tokenizer_and_corpus(tmp_path, monkeypatch):
    folder = corpus_of(tmp_path / "corpus", *(text(str(i), t) for i, t in enumerate(TEXT)))
    first = build_rows(folder, "train", tiny_tokenizer(), 64, cache=tmp_path / "cache")
    calls = []
    monkeypatch.setattr(tokenizing, "tokenize", lambda *a: calls.append(a) or tokenize(*a))
    again = build_rows(folder, "train", tiny_tokenizer(), 64, cache=tmp_path / "cache")
    assert not calls
    assert [row.input_ids.tolist() for row in again] == [row.input_ids.tolist() for row in first]
    build_rows(folder, "train", tiny_tokenizer(), 48, cache=tmp_path / "cache")
    assert not calls  # other rows of the same tokens
    build_rows(folder, "train", tiny_tokenizer(add_bos=True), 64, cache=tmp_path / "cache")
    assert len(calls) == 1
    corpus_of(folder, text("new", TEXT[0]))
    build_rows(folder, "train", tiny_tokenizer(), 64, cache=tmp_path / "cache")
    assert len(calls) == 2


@pytest.mark.slow
def test_rows_do_not_depend_on_the_hash_seed(tmp_path):
    corpus_of(tmp_path / "corpus", *(text(str(i), TEXT[i % 6] * (i % 4 + 1)) for i in range(20)))
    program = (
        "import sys; from pathlib import Path; from tests.tiny import tiny_tokenizer;"
        "from llmtune.files import content_fingerprint; from llmtune.training.data import build_rows;"
        "f = Path(sys.argv[1]); build_rows(f / 'corpus', 'train', tiny_tokenizer(), 32, cache=f / sys.argv[2]);"
        "print(content_fingerprint([f / sys.argv[2]]))"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), seed],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1",)
    }
    build_rows(tmp_path / "corpus", "train", tiny_tokenizer(), 32, cache=tmp_path / "here")
    assert prints == {content_fingerprint([tmp_path / "here"]) + "\n"}


def test_nothing_to_train_on_is_an_error(tmp_path):
    folder = corpus_of(tmp_path / "a", chat("a", ("user", "Only a question?")))
    with pytest.raises(LlmtuneError, match="no token to train on"):
        build_rows(folder, "train", tiny_tokenizer(), 32)
    with pytest.raises(LlmtuneError, match="no token to train on"):
        build_rows(corpus_of(tmp_path / "b"), "train", tiny_tokenizer(), 32)
    # the answer begins beyond the row
    folder = corpus_of(tmp_path / "c", chat("a", ("user", "zq" * 50), ("assistant", "Yes.")))
    with pytest.raises(LlmtuneError, match="no token to train on"):
        build_rows(folder, "train", tiny_tokenizer(), 32)


def test_long_conversations_lose_their_end_and_are_counted(tmp_path):
    tokenizer = tiny_tokenizer()
    folder = corpus_of(
        tmp_path,
        chat("a", ("user", "Hi"), ("assistant", "zq" * 50)),
        chat("b", ("user", "zq" * 50), ("assistant", "no")),
    )
    rows = build_rows(folder, "train", tokenizer, 40)
    assert len(rows) == 1
    assert len(rows[0].input_ids) == 40
    assert (rows.counts.shortened, rows.counts.dropped_documents, rows.counts.documents) == (2, 1, 1)
    assert np.flatnonzero(rows[0].trained)[-1] == 39

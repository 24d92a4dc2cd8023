"""`llmtune show-batch`: the recipe's own stage, the tokenizer alone, and errors that say what to name."""

import errno
import gc
import os
import re
from dataclasses import replace

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from llmtune.artifacts import Artifact
from llmtune.cli import show_batch as command
from llmtune.errors import LlmtuneError
from llmtune.models.load import load_tokenizer
from llmtune.recipe import load_recipe
from llmtune.run.lock import FileLock
from llmtune.training import session
from tests.tiny import TEXT, tiny_checkpoint
from tests.training.corpora import corpus_of, text

pytest.importorskip("llmtune.stages.train")

MASKED = "train.masking={type: causal, token: <|endoftext|>}"
RECIPE = """
name: tiny
model: model/
seed: 7
stages:
  - corpus: {sources: [{path: docs/}]}
  - train: {row_tokens: 48, batch_tokens: 96, micro_batch: 2}
  - train: {id: second, row_tokens: 24, batch_tokens: 96, micro_batch: 1}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("\n".join(TEXT))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    corpus = corpus_of(tmp_path / "corpus", *(text(str(i), content) for i, content in enumerate(TEXT)))
    artifact = Artifact("corpus", corpus, "0" * 24, "corpus", "corpus")
    monkeypatch.setattr("llmtune.run.artifact_for", lambda *arguments: artifact)
    monkeypatch.setattr("llmtune.models.load.load_model", lambda *a, **k: pytest.fail("loaded the weights"))
    monkeypatch.setattr("rich.console.Console", lambda **options: Console(width=160, color_system=None, **options))
    monkeypatch.chdir(tmp_path)  # where `runs` goes
    return tmp_path / "recipe.yaml"


def output_of(*arguments):
    app = typer.Typer()
    app.command()(command.show_batch)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_first_training_stage(recipe):
    result = output_of(recipe)
    assert result.exception is None, result.exception
    assert result.output.count("batch 1, step 1, epoch 1, row") == 2
    assert "batch 2" not in result.output
    assert "trained" in result.output


def test_stage_batches_and_overrides(recipe):
    result = output_of(
        recipe, "second.row_tokens=40", "--stage", "second", "--batches", "3", "--speed", "500", "--whole"
    )
    assert result.exception is None, result.exception
    assert [line.count("batch 3, step 2, epoch 1, row") for line in result.output.splitlines()].count(1) == 1
    assert "a row of 40 tokens" in result.output
    assert "Of 500 tokens/s" in result.output
    assert "tokens …" not in result.output


def test_rows_are_kept_for_the_next_time(recipe, tmp_path, monkeypatch):
    first = output_of(recipe)
    assert (tmp_path / "runs" / ".aside" / ".rows").is_dir()
    monkeypatch.setattr("llmtune.training.tokenize.tokenize", lambda *arguments: pytest.fail("tokenized again"))
    again = output_of(recipe)
    assert again.exception is None, again.exception
    assert again.stdout == first.stdout
    with pytest.raises(pytest.fail.Exception, match="tokenized again"):
        output_of(recipe, "--runs", tmp_path / "others")


def test_two_at_once_make_the_rows_one_after_the_other(recipe, tmp_path, monkeypatch):
    other = FileLock(tmp_path / "runs" / ".aside" / ".rows" / "lock")
    assert other.try_acquire()
    acquire = FileLock.acquire

    def wait_until_the_other_is_done(lock, wait):
        assert not lock.try_acquire()
        other.release()
        return acquire(lock, wait)

    monkeypatch.setattr(FileLock, "acquire", wait_until_the_other_is_done)
    result = output_of(recipe)
    assert result.exception is None, result.exception
    assert f"process {os.getpid()} is making rows to look at: waiting for it" in result.stderr


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_somebody_elses_runs_can_be_looked_at(recipe, tmp_path, monkeypatch, number):
    kept = output_of(recipe)

    def refused(lock):
        raise OSError(number, "refused", str(lock.path))

    monkeypatch.setattr(FileLock, "try_acquire", refused)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    result = output_of(recipe, "--runs", tmp_path / "theirs")
    assert result.exception is None, result.exception
    assert result.stdout == kept.stdout
    assert "cannot be written: the rows are made for this time alone" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "theirs").exists()
    gc.collect()
    assert not list((tmp_path / "temporary").glob("llmtune-rows-*"))


def test_a_full_disk_is_told(recipe, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    monkeypatch.setattr(FileLock, "try_acquire", full)
    result = output_of(recipe)
    assert isinstance(result.exception, LlmtuneError)
    assert "no space left on the disk" in str(result.exception)


def test_a_tokenizer_is_fetched_before_others_are_kept_waiting(recipe, tmp_path, monkeypatch):
    def look(*arguments, **options):
        assert not FileLock(tmp_path / "runs" / ".aside" / ".rows" / "lock").is_held()
        return load_tokenizer(*arguments, **options)

    monkeypatch.setattr("llmtune.models.load.load_tokenizer", look)
    result = output_of(recipe)
    assert result.exception is None, result.exception


def test_a_tokenizer_that_cannot_be_kept_is_not_told_of_the_runs(recipe, monkeypatch):
    def refused(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "/home/me/.cache/llmtune")

    monkeypatch.setattr("llmtune.models.find.resolve", refused)
    told = str(output_of(recipe).exception)
    assert "the tokenizer of" in told
    assert "Permission denied: '/home/me/.cache/llmtune'" in told
    assert "LLMTUNE_CACHE" in told
    assert "--runs" not in told


@pytest.mark.parametrize("overrides", [[], ["train.seed=3", "train.compile=true"], [MASKED]])
def test_what_is_shown_is_what_a_training_gets(recipe, tmp_path, monkeypatch, overrides):
    """Rows, collator, order: all that decides the batches, caught on their way to both."""
    shown, given = {}, {}

    def show(rows, collate, tokenizer, **options):
        shown.update(options, rows=rows, collate=collate)
        return []

    class Caught(Exception):
        pass

    def loop(**parts):
        given.update(parts)
        raise Caught

    monkeypatch.setattr("llmtune.training.show.show_batches", show)
    result = output_of(recipe, *overrides)
    assert result.exception is None, result.exception
    monkeypatch.setattr(session, "Loop", loop)
    loaded = load_recipe(recipe, overrides)
    stage = loaded.stages[1]
    with pytest.raises(Caught):
        session.train(
            tmp_path / "model",
            tmp_path / "corpus",
            stage,
            output=tmp_path / "out",
            work=tmp_path / "work",
            seed=loaded.seed,
        )
    assert shown["seed"] == given["seed"]
    assert (shown["batch_rows"], shown["micro_batch"]) == (given["settings"].batch_rows, given["micro_batch"])
    assert [row.input_ids.tolist() for row in shown["rows"]] == [row.input_ids.tolist() for row in given["rows"]]
    # padding may be any token: nothing sees it
    assert replace(shown["collate"], pad_id=0) == replace(given["collator"], pad_id=0)


def test_masking_is_shown(recipe):
    result = output_of(recipe, MASKED)
    assert result.exception is None, result.exception
    assert "masked: trained, but the model reads <|endoftext|>" in result.output
    assert "epoch 2: " in result.output
    wrong = output_of(recipe, "train.masking={type: mlm}").exception
    assert "use type causal" in str(wrong)


def test_augmented_texts_are_shown_beside_their_originals(recipe, tmp_path, monkeypatch):
    made = replace(text("0-es", "The scheduler estimates."), origin="0")
    corpus = corpus_of(tmp_path / "augmented", text("0", TEXT[0]), made)
    artifact = Artifact("corpus", corpus, "0" * 24, "corpus", "corpus")
    monkeypatch.setattr("llmtune.run.artifact_for", lambda *arguments: artifact)
    result = output_of(recipe)
    assert result.exception is None, result.exception
    last = result.output.index("Augmented documents")
    assert "The scheduler estimates." in result.output[last:]
    assert TEXT[0][:40] in result.output[last:]


def test_a_compiled_training_has_rows_of_one_length(recipe):
    titles = re.compile(r"(\d+) tokens, \d+ trained, (\d+) padding")
    padded = titles.findall(output_of(recipe, "train.compile=true", "--batches", "2").stdout)
    assert {int(tokens) + int(padding) for tokens, padding in padded} == {48}
    as_they_are = titles.findall(output_of(recipe, "--batches", "2").stdout)
    assert [tokens for tokens, _ in as_they_are] == [tokens for tokens, _ in padded]
    assert any(int(tokens) + int(padding) < 48 for tokens, padding in as_they_are)


def test_unknown_stage(recipe):
    result = output_of(recipe, "--stage", "corpus")
    assert isinstance(result.exception, LlmtuneError)
    assert "train, second" in str(result.exception)

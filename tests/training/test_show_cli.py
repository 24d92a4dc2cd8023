"""`llmtune show-batch`: the recipe's own stage, the tokenizer alone, and errors that say what to name."""

import os
import re

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from llmtune.artifacts import Artifact
from llmtune.cli import show_batch as command
from llmtune.errors import LlmtuneError
from llmtune.run.lock import FileLock
from tests.tiny import TEXT, tiny_checkpoint
from tests.training.corpora import corpus_of, text

pytest.importorskip("llmtune.stages.train")

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
    monkeypatch.setattr("llmtune.training.tokenize.tokenise", lambda *arguments: pytest.fail("tokenised again"))
    again = output_of(recipe)
    assert again.exception is None, again.exception
    assert again.stdout == first.stdout
    with pytest.raises(pytest.fail.Exception, match="tokenised again"):
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

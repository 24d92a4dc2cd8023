"""Tokens of two model folders, compared without loading either."""

from __future__ import annotations

import json
from pathlib import Path

from llmtune.models.load import load_tokenizer
from llmtune.models.vocabulary import conflict
from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents
from tests.tiny import tiny_checkpoint


def swapped(folder: Path) -> tuple[str, int, int]:
    """Give two tokens each other's numbers; returns the one that comes first, with its number then and now."""
    spec = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = spec["model"]["vocab"]
    first, second = sorted(vocabulary, key=lambda token: vocabulary[token])[100:102]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return first, vocabulary[second], vocabulary[first]


def test_a_token_with_another_number_is_found(tmp_path: Path) -> None:
    one, other = tiny_checkpoint(tmp_path / "one"), tiny_checkpoint(tmp_path / "other", "qwen3")
    assert conflict(one, other) is None
    token, before, now = swapped(other)
    assert conflict(one, other) == f"token {token!r} has number {before} beside {now}"
    assert load_tokenizer(one).convert_tokens_to_ids(token) == before
    assert load_tokenizer(other).convert_tokens_to_ids(token) == now


def test_tokens_of_one_alone_and_folders_without_are_no_conflict(tmp_path: Path) -> None:
    one, larger = tiny_checkpoint(tmp_path / "one"), tiny_checkpoint(tmp_path / "larger")
    spec = json.loads((larger / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][0], "id": 320, "content": "<|more|>"})
    (larger / "tokenizer.json").write_text(json.dumps(spec))
    assert conflict(one, larger) is None
    assert conflict(one, tmp_path / "nothing") is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    assert conflict(tmp_path / "broken", one) is None


def test_plan_tells_of_a_teacher_with_other_tokens(tmp_path: Path) -> None:
    """By way of stages that keep them; where they are trimmed, sizes tell."""
    line = CommandLine(tmp_path, tiny_checkpoint(tmp_path / "model"))
    swapped(tiny_checkpoint(tmp_path / "teacher"))
    write_documents(tmp_path / "docs")
    road = (
        "corpus: {sources: [{path: docs}], near_duplicates: null}\n"
        "train: {epochs: 1, row_tokens: 64, batch_tokens: 512}\n"
        "prune: {keep_width: 0.5, calibration: {rows: 8, tokens: 32}}\n"
        "distill: {epochs: 1, row_tokens: 64, batch_tokens: 512, teacher: {name: ./teacher}}"
    )
    line.recipe(road)
    refused, fits = line.run("plan", "toy.yaml"), line.run("plan", "toy.yaml", "distill.teacher=train")
    assert refused.returncode != 0
    assert "the teacher has another vocabulary: token '£' has number 100 beside 101" in refused.stdout + refused.stderr
    assert (fits.returncode, "It fits" in fits.stdout) == (0, True)

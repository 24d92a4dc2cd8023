"""Masking in the loop: the same losses whatever the micro-batch and the ranks, the same bits after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.extras import have
from llmtune.files import content_fingerprint
from llmtune.training.objective import NextToken
from tests.tiny import UNKNOWN
from tests.tiny_encoders import tiny_encoder_checkpoint
from tests.training.small_run import Interrupting, losses_of, small_corpus, small_place, small_train

CAUSAL: dict[str, Any] = {"masking": {"type": "causal", "token": UNKNOWN, "ratio": 0.3}}


class Reading(NextToken):
    """The next token's loss, keeping what was read."""

    def __init__(self) -> None:
        self.read: list[tuple[bool, list[list[int]]]] = []

    def __call__(self, model: Any, batch: Any) -> Any:
        self.read.append((model.training, batch["input_ids"].tolist()))
        return super().__call__(model, batch)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_place(tmp_path_factory.mktemp("masking"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoder")
    tiny_encoder_checkpoint(place / "model", "bert")
    small_corpus(place / "corpus")
    return place


def test_training_reads_masks_and_validation_reads_the_text(place: Path) -> None:
    masked, plain = Reading(), Reading()
    small_train(place, "masked", objective=masked, **CAUSAL, tokens=1200, guard=None)
    small_train(place, "plain", objective=plain, tokens=1200, guard=None)
    for (training, read), (_, stood) in zip(masked.read, plain.read, strict=True):
        changed = {token for token, other in zip(flat(read), flat(stood), strict=True) if token != other}
        assert changed == ({4} if training else set())  # the id of UNKNOWN
    assert {training for training, _ in masked.read} == {True, False}
    assert losses_of(place, "masked")[0] != losses_of(place, "plain")[0]


def flat(rows: list[list[int]]) -> list[int]:
    return [token for row in rows for token in row]


def test_micro_batches_change_nothing(encoder: Path) -> None:
    for size in (8, 3):
        small_train(encoder, f"micro-{size}", micro_batch=size, tokens=1000)
    assert losses_of(encoder, "micro-8") == pytest.approx(losses_of(encoder, "micro-3"), abs=2e-4)


@pytest.mark.slow
@pytest.mark.skipif(not have("deepspeed"), reason="needs the extra deepspeed")
def test_killed_in_its_second_epoch_and_on_two_ranks(place: Path, encoder: Path) -> None:
    from tests.training.test_zero import curve, on_ranks

    settings = {**CAUSAL, "tokens": None, "epochs": 2, "batch_tokens": 320, "micro_batch": 2, "checkpoint_steps": 5}
    steps = small_train(place, "whole", **settings)["steps"]
    kill = steps * 3 // 4
    assert on_ranks(place, "killed", None, settings, LLMTUNE_INJECT=f"kill@step:{kill}") != 0
    resumed = Interrupting()
    small_train(place, "killed", resumed, **settings)
    assert 1 < resumed.steps[0]["step"] <= kill
    assert content_fingerprint([place / "killed/output"]) == content_fingerprint([place / "whole/output"])
    short: dict[str, Any] = {"batch_tokens": 320, "micro_batch": 2, "tokens": 1500}
    on_ranks(encoder, "two", "torchrun", short)
    small_train(encoder, "one", **short)
    assert curve(encoder, "two") == pytest.approx(curve(encoder, "one"), abs=5e-4)

"""Automatic care through the command line: memory that does not suffice, batches that are not numbers, a rate far too
high, and what a user sees of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmtune.files import sha256_file
from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents

CORPUS = "corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.1}, near_duplicates: null}\n"
TRAIN = "epochs: 2, row_tokens: 64, batch_tokens: 256, precision: fp32"


def trained(line: CommandLine) -> tuple[dict[str, Any], str]:
    """Metrics and the hash of the weights."""
    record = json.loads((line.folder / "runs/toy/02-train/stage.json").read_text())
    artifact = line.folder / "runs/.artifacts" / record["artifact"]
    return record["metrics"], sha256_file(artifact / "model.safetensors")


@pytest.mark.slow
def test_half_the_micro_batch_takes_the_same_care(line: CommandLine) -> None:
    """Four rows at once do not fit; the rate of `auto`, a batch left out and a roll-back are those of two at once."""
    write_documents(line.folder / "docs")
    train = f"{TRAIN}, lr: auto, guard: {{patience: 2, anchor_steps: 4}}"
    faults = "nan@step:3,spike@step:8,spike@step:9"
    line.environment["LLMTUNE_INJECT"] = f"{faults},memory@rows:4"
    line.recipe(f"{CORPUS}train: {{{train}, micro_batch: 4}}")
    halved = line.run("run", "toy.yaml", timeout=120)
    assert halved.returncode == 0, halved.stdout + halved.stderr
    assert "out of memory: starting again with 1/2" in halved.stdout
    for told in ("lr: auto is", "step 3 is not a finite number: its batch is left out", "training goes back to step 4"):
        assert told in halved.stdout, halved.stdout
    metrics, weights = trained(line)
    assert (metrics["micro_batch"], metrics["roll_backs"]) == (2, 1)
    line.environment["LLMTUNE_INJECT"] = faults
    line.recipe(f"{CORPUS}train: {{{train}, micro_batch: 2}}")
    assert line.run("run", "toy.yaml", timeout=120).returncode == 0
    two, same = trained(line)
    assert (two["lr"], two["skipped_steps"], same) == (metrics["lr"], metrics["skipped_steps"], weights)


@pytest.mark.slow
def test_a_training_that_diverges_is_one_message_and_loses_nothing(line: CommandLine) -> None:
    write_documents(line.folder / "docs")
    line.environment["LLMTUNE_INJECT"] = ",".join(f"spike@step:{batch}" for batch in range(6, 60))
    line.recipe(f"{CORPUS}train: {{{TRAIN}, guard: {{patience: 2, anchor_steps: 4}}}}")
    failed = line.run("run", "toy.yaml", timeout=120)
    assert failed.returncode == 1
    assert failed.stderr.count("training diverged: the loss shot up") == 1
    assert "the last good state (step-000004) is kept" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    del line.environment["LLMTUNE_INJECT"]
    again = line.run("run", "toy.yaml", timeout=120)
    assert again.returncode == 0, again.stderr
    assert "corpus done before" in again.stdout
    assert "training goes on after step 4" in again.stdout

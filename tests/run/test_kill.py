"""kill -9 at many moments of a whole road, each time the same command again: the end result has the same bits.

Scores are not compared (they hold times), so the recipe has no `evaluate:`; tests/evaluate stops an evaluation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.files import files_below, sha256_file
from tests.augment.conftest import pretended
from tests.run.conftest import CommandLine
from tests.tiny import TEXT, tiny_checkpoint

STAGES = """
corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.1}, near_duplicates: null}
back_translate: {keep: {min_similarity: 0.2}}
trim_vocabulary: {min_count: 120}
train: {epochs: 2, row_tokens: 64, batch_tokens: 512, lr: 1e-3, checkpoint_steps: 2, masking: {type: causal, token: z}}
prune: {keep_width: 0.5, calibration: {rows: 8, tokens: 32}}
distill: {epochs: 1, row_tokens: 64, batch_tokens: 512, micro_batch: 2, lr: 1e-3, checkpoint_steps: 2}
quantize: {method: gptq, group_size: 32, calibration: {rows: 8, tokens: 32}}
export: {id: hf, format: hf}
export: {id: gguf, format: gguf, type: q4_0, pre_tokenizer: gpt-2, from: quantize}
"""
HEAD = "seed: 3"


def write_documents(folder: Path) -> None:
    """Forty short documents, each different."""
    folder.mkdir()
    for number in range(40):
        sentences = [TEXT[(number * 7 + step * step) % len(TEXT)] for step in range(12)]
        text = "\n\n".join(f"{number}.{step} {sentence}" for step, sentence in enumerate(sentences))
        (folder / f"{number:02d}.txt").write_text(text)


def result_of(line: CommandLine) -> dict[str, str]:
    """Hash of every file that the stages made, but for the descriptions (costs)."""
    found = {}
    for place in sorted(line.folder.glob("runs/.artifacts/[0-9a-f]*")):
        stage = json.loads((place / "artifact.json").read_text())["stage"]
        for file in files_below(place):
            if file.name != "artifact.json":
                found[f"{stage}/{file.relative_to(place)}"] = sha256_file(file)
    return found


def jobs(line: CommandLine, kind: str) -> list[Path]:
    """Workshops of artifacts of a kind that are being made."""
    found = []
    for job in line.folder.glob("runs/.artifacts/.work/*/job.json"):
        try:
            if json.loads(job.read_text())["kind"] == kind:
                found.append(job.parent)
        except (OSError, ValueError):
            continue
    return found


def has(line: CommandLine, kind: str, pattern: str) -> bool:
    """Whether a workshop of this kind holds such a file."""
    return any(next(place.glob(pattern), None) for place in jobs(line, kind))


MOMENTS: list[tuple[str, str, str]] = [
    ("corpus", "output/*", ""),
    ("back_translate", "work/*", ""),
    ("trim_vocabulary", "output/*", ""),
    ("train", "", "kill@checkpoint:6"),
    ("train", "output/*", ""),
    ("prune", "output/*", ""),
    ("distill", "", "kill@step:3"),
    ("quantize", "work/**/layer-*", ""),
    ("export", "work/*", ""),
]


def kill_when(line: CommandLine, moment: Callable[[], bool], injected: str) -> bool:
    """Run, and kill the supervisor at the moment; False when the run came to its end before."""
    line.environment["LLMTUNE_INJECT"] = injected
    running = line.start("run", "toy.yaml")
    limit = time.monotonic() + 120
    while running.poll() is None and not (not injected and moment()):
        assert time.monotonic() < limit, "neither the moment nor the end came"
        time.sleep(0.002)
    if running.poll() is None:
        os.kill(running.pid, 9)
    output = running.communicate()[0]
    del line.environment["LLMTUNE_INJECT"]
    assert running.returncode in (-9, 0) or "killed from outside" in output, output
    line.wait_for(lambda: not _workers_alive(line), seconds=10)
    return running.returncode != 0


def _workers_alive(line: CommandLine) -> bool:
    for lock in line.folder.glob("runs/.artifacts/.work/*/worker.lock"):
        try:
            os.kill(int(lock.read_text()), 0)
        except (ProcessLookupError, ValueError, OSError):
            continue
        return True
    return False


@pytest.mark.slow
@pytest.mark.longest
def test_killed_at_moments_of_every_stage_the_result_is_that_of_a_run_never_killed(
    line: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    apertium = pretended(tmp_path_factory.mktemp("apertium") / "fake")
    line.model = tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", vocab_size=486)
    whole = CommandLine(tmp_path_factory.mktemp("whole"), line.model)
    for one in (whole, line):
        one.environment["PATH"] = apertium.environment["PATH"]
        write_documents(one.folder / "docs")
        one.recipe(STAGES, head=HEAD)
    finished = whole.run("run", "toy.yaml", timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    kills = 0
    for kind, pattern, injected in MOMENTS:
        kills += kill_when(line, lambda k=kind, p=pattern: has(line, k, p), injected)  # type: ignore[misc]
    assert kills >= 7, f"only {kills} of the moments were met"
    last = line.run("run", "toy.yaml", timeout=300)
    assert last.returncode == 0, last.stdout + last.stderr
    expected, found = result_of(whole), result_of(line)
    assert found == expected
    assert any(name.startswith("gguf/") and name.endswith(".gguf") for name in found)
    for stage in ("hf", "gguf"):
        (record,) = whole.folder.glob(f"runs/toy/*-{stage}/stage.json")
        assert json.loads(record.read_text())["metrics"]["verified"] is True
    only_what_depends_on_a_change_is_to_be_made_again(whole)
    a_teacher_with_other_tokens_is_refused(whole)


def only_what_depends_on_a_change_is_to_be_made_again(line: CommandLine) -> None:
    planned = line.run("plan", "toy.yaml", "quantize.calibration.rows=6")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    rows = [text.split() for text in planned.stdout.splitlines()]
    places = [row[0] for row in rows if row[-1:] == ["done"]]
    assert places == ["base", "corpus", "back_translate", "trim_vocabulary", "train", "prune", "distill"]


def a_teacher_with_other_tokens_is_refused(line: CommandLine) -> None:
    refused = line.run("run", "toy.yaml", "distill.teacher=base")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stdout + refused.stderr
    assert "the teacher has another vocabulary" in refused.stdout + refused.stderr

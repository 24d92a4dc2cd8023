"""An outer launch: the ranks exist before the recipe is read; serial stages run once, training stages on all ranks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.run.conftest import CommandLine


@pytest.mark.slow
def test_training_stages_run_on_every_rank_and_others_once(line: CommandLine) -> None:
    line.recipe("count: {upto: 4}\ndouble: {}\ncount: {id: second, upto: 3}", head="seed: 1")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]
    started = subprocess.run(
        [*launch, "-m", "llmtune", "run", "toy.yaml"],
        cwd=line.folder, env=line.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    folders = [line.folder / "runs/toy" / name / "stage.json" for name in ("01-count", "03-second")]
    records = [json.loads(folder.read_text()) for folder in folders]
    assert [record["metrics"]["ranks"] for record in records] == [2, 2]
    assert line.total("02-double") == 22
    assert "metrics" in json.loads((line.folder / "runs/toy/02-double/stage.json").read_text())

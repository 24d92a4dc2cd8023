"""Two CPU ranks, ZeRO-1, 2, 3, offloading (`accelerate launch`) and DDP (`torchrun`): the curve of one process; exact
resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmtune.extras import have
from llmtune.files import content_fingerprint
from tests.training.small_run import history_of, small_place

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "batch_tokens": 320, "micro_batch": 2, "tokens": 1500, "checkpoint_steps": 2, "optimizer": {"weight_decay": 0.1}
}  # fmt: skip
RANK = """
import json, os, sys
from pathlib import Path
from tests.training.small_run import small_train
if os.environ.get("RANK") != os.environ.get("FAULTY_RANK", os.environ.get("RANK")):
    del os.environ["LLMTUNE_INJECT"]
metrics = small_train(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3]))
sys.stdout.flush()
os._exit(0)  # as the run's own workers end
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not have("deepspeed"), reason="needs the extra deepspeed"),
]


def on_ranks(place: Path, name: str, config: str | None, settings: dict[str, Any], **environment: str) -> int:
    """Train in new processes: by `accelerate launch` with a configuration of ours, or one process alone."""
    script = place / "rank.py"
    script.write_text(RANK)
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs" / f"{config}.yaml")]
    launch += ["--main_process_port", "0", "--num_processes", "2"]
    if config == "torchrun":
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        environment["ACCELERATE_USE_CPU"] = "true"
    arguments = [str(script), str(place), name, json.dumps(settings)]
    command = [sys.executable, *(launch if config else []), *arguments]
    done = subprocess.run(
        command,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LLMTUNE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "CXX": "no-compiler",
            "TORCH_EXTENSIONS_DIR": str(place / "extensions"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode and "LLMTUNE_INJECT" not in environment:
        raise AssertionError(done.stderr[-3000:])
    return done.returncode


def curve(place: Path, name: str) -> list[float]:
    return [value for r in history_of(place, name) for value in (r.get("loss"), r.get("valid_loss")) if value]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_place(tmp_path_factory.mktemp("zero"))


FULL, LORA = None, {"rank": 4}


@pytest.mark.parametrize(
    ("config", "adapter"),
    [
        ("zero1-cpu", LORA),
        ("zero2-cpu", FULL),
        ("zero3-cpu", FULL),
        ("zero3-cpu", LORA),
        ("zero3-offload", FULL),
        ("torchrun", LORA),
    ],
    ids=["zero1-lora", "zero2-full", "zero3-full", "zero3-lora", "zero3-offload-full", "torchrun-lora"],
)
def test_two_ranks_learn_what_one_does(place: Path, config: str, adapter: dict[str, Any] | None) -> None:
    """Five rows a step over two ranks and micro-batches of two: unequal shares, an idle row, accumulation.

    Tolerance: in fp32 the ranks' sums are added in another order than one process adds them (relative 1e-7 a step),
    and AdamW divides by the root of squared gradients, which magnifies that for weights whose gradient is near zero.
    """
    settings = {**SETTINGS, "adapter": adapter}
    alone = f"alone-{bool(adapter)}"
    if not (place / alone).exists():
        on_ranks(place, alone, None, settings)
    on_ranks(place, f"{config}-{bool(adapter)}", config, settings)
    assert curve(place, f"{config}-{bool(adapter)}") == pytest.approx(curve(place, alone), abs=5e-4)
    # what is saved is gathered whole: weights in bf16, whose last bit is 1/256 of a value; an adapter as trained
    for file in ("model.safetensors", *(["adapter/adapter_model.safetensors"] if adapter else [])):
        ours, theirs = (load_file(place / name / "output" / file) for name in (f"{config}-{bool(adapter)}", alone))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name].float(), value.float(), rtol=1 / 64, atol=2e-3)


@pytest.mark.parametrize(
    ("config", "precision", "fault", "rank"),
    [("zero2-cpu", "fp32", "kill@checkpoint:4", {}), ("zero3-cpu", "bf16", "kill@step:4", {"FAULTY_RANK": "1"})],
    ids=["all", "one"],
)
def test_killed_ranks_go_on_to_the_same_bits(
    place: Path, config: str, precision: str, fault: str, rank: dict[str, str]
) -> None:
    """One that is left alone is ended by the launcher, whatever sum it waits in."""
    settings = {**SETTINGS, "adapter": FULL, "precision": precision}
    whole = f"{config}-False" if precision == "fp32" else f"{config}-whole"
    if not (place / whole).exists():  # in fp32 the test above may have made it
        on_ranks(place, whole, config, settings)
    status = on_ranks(place, f"{config}-killed", config, settings, LLMTUNE_INJECT=fault, **rank)
    assert status not in (0, -signal.SIGTERM)
    on_ranks(place, f"{config}-killed", config, settings)
    expected, found = (content_fingerprint([place / name / "output"]) for name in (whole, f"{config}-killed"))
    assert found == expected

"""Two CPU ranks under FSDP2: the curve of one process, whole tensors in what is saved, exact resume.

The trainings share one launch, each with a process group of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmtune.files import content_fingerprint
from llmtune.training.fsdp import decoder_layers
from tests.tiny import tiny_model
from tests.tiny_encoders import tiny_encoder, tiny_encoder_checkpoint
from tests.training.small_run import history_of, losses_of, small_corpus, small_place, small_train

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"batch_tokens": 320, "micro_batch": 2, "tokens": 1500, "checkpoint_steps": 2}
FULL = SETTINGS | {"optimizer": {"weight_decay": 0.1}}
LORA = SETTINGS | {"adapter": {"rank": 4}, "precision": "bf16", "gradient_checkpointing": True}
RANK = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import PartialState
from llmtune.errors import Stopped
from tests.training.small_run import Interrupting, small_train
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
port = int(os.environ["MASTER_PORT"])
for number, (place, name, stop_after, settings) in enumerate(json.loads(sys.argv[1])):
    os.environ["MASTER_PORT"] = str(port + 1 + number)
    os.environ["FSDP_RESHARD_AFTER_FORWARD"] = "false" if name == "kept" else "true"
    try:
        small_train(Path(place), name, Interrupting(stop_after), **settings)
    except Stopped:
        torch.distributed.destroy_process_group()
    PartialState._reset_state()
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`full/`, `lora/`, `stopped/` and `kept/` (weights stay gathered for the backward pass), trained on two ranks, and
    `encoder/full/`."""
    place = small_place(tmp_path_factory.mktemp("fsdp"))
    tiny_encoder_checkpoint(place / "encoder" / "model", "bert")
    small_corpus(place / "encoder" / "corpus")
    (place / "rank.py").write_text(RANK)
    jobs = [("full", None, FULL), ("lora", None, LORA), ("stopped", 3, FULL), ("stopped", None, FULL)]
    jobs = [(str(place), *job) for job in (*jobs, ("kept", None, FULL))]
    jobs += [(str(place / "encoder"), "full", None, FULL)]
    config = str(ROOT / "accelerate_configs" / "fsdp2-cpu.yaml")
    launch = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, str(place / "rank.py"), json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LLMTUNE_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def figures(place: Path, name: str) -> list[float]:
    return [
        value
        for record in history_of(place, name)
        for value in (record.get("loss"), record.get("grad_norm"), record.get("valid_loss"))
        if value is not None
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "tolerance"), [("full", FULL, 5e-4), ("lora", LORA, 5e-3)])
def test_two_ranks_learn_what_one_does(place: Path, name: str, settings: dict[str, Any], tolerance: float) -> None:
    """Losses and gradient norms; tolerance as in test_zero.py, with bf16 rounding ten times that."""
    small_train(place, f"{name}-alone", **settings)
    assert figures(place, name) == pytest.approx(figures(place, f"{name}-alone"), abs=tolerance)
    file = "adapter/adapter_model.safetensors" if settings is LORA else "model.safetensors"
    ours, theirs = (load_file(place / one / "output" / file) for one in (name, f"{name}-alone"))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].shape == value.shape
        assert torch.cosine_similarity(ours[key].float().flatten(), value.float().flatten(), dim=0) > 0.99, key


@pytest.mark.slow
def test_an_encoder_whose_head_is_its_embedding(place: Path) -> None:
    small_train(place / "encoder", "alone", **FULL)
    assert losses_of(place / "encoder", "full") == pytest.approx(losses_of(place / "encoder", "alone"), abs=5e-4)


@pytest.mark.slow
def test_neither_a_stop_nor_when_weights_are_gathered_changes_a_bit(place: Path) -> None:
    whole, *others = (content_fingerprint([place / name / "output"]) for name in ("full", "stopped", "kept"))
    assert others == [whole, whole]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "bert", "modernbert"])
def test_every_layer_is_gathered_by_itself_and_what_the_head_reads_is_not(family: str) -> None:
    """Or FSDP would gather the model as a whole, and save nothing; or let go of a tied head's weights too soon."""
    model = tiny_encoder(family) if "bert" in family else tiny_model(family)
    layers = decoder_layers(model)
    assert len(layers) == model.config.num_hidden_layers
    inside = {parameter for layer in layers for parameter in layer.parameters()}
    names = [name for name, parameter in model.named_parameters() if parameter not in inside]
    assert not [name for name in names if re.search(r"\.\d+\.", name)]
    assert model.get_input_embeddings().weight not in inside

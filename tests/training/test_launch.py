"""What a launch configuration asks for, what that costs each rank, and what is said of one that is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from llmtune.machine import Accelerator, Machine
from llmtune.models.shape import ModelShape
from llmtune.training import launch
from llmtune.training.estimate import estimate
from llmtune.training.memory import _state
from llmtune.training.settings import TrainSettings

CONFIGS = Path(__file__).parents[2] / "accelerate_configs"


def test_a_missing_file_is_told_whole_with_a_place_to_look(tmp_path, monkeypatch):
    wanted = tmp_path / "here" / "zero9.yaml"
    assert launch.read_launch(wanted).problem == f"launch: the file {wanted} is not there; examples are in {CONFIGS}"
    monkeypatch.chdir(tmp_path)
    assert f"the file {tmp_path / 'zero9.yaml'} is not there" in launch.read_launch(Path("zero9.yaml")).problem


@pytest.mark.parametrize("installed", [True, False])
def test_examples_of_an_installed_package(tmp_path, monkeypatch, installed):
    place = tmp_path / "share" / "llmtune" / "accelerate_configs"
    monkeypatch.setattr(launch, "shipped_folder", lambda name: tmp_path / "share/llmtune" / name if installed else None)
    told = launch.read_launch(tmp_path / "x.yaml").problem
    assert (f"examples are in {place}" if installed else "in llmtune's source, folder accelerate_configs/") in told


def test_plan_says_it(tmp_path):
    from typer.testing import CliRunner

    from llmtune.cli.app import build_app
    from tests.tiny import TEXT, tiny_checkpoint

    tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "a.txt").write_text("\n".join(TEXT))
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nmodel: model/\nstages:\n- corpus: {sources: [{path: a.txt}]}\n- train: {launch: no/zero9.yaml}\n"
    )
    done = CliRunner().invoke(build_app([]), ["plan", str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1
    assert f"the file {tmp_path / 'no' / 'zero9.yaml'} is not there; examples are in {CONFIGS}" in done.stdout


# Llama 2 7B: 6.738 billion weights, 0.262 of them in embedding and head, 32 layers.
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
SEVEN_BILLION = ModelShape(
    LLAMA,
    {
        "model.embed_tokens.weight": (32000, 4096),
        "lm_head.weight": (32000, 4096),
        "model.norm.weight": (4096,),
        **{
            f"model.layers.{layer}.{name}.weight": size
            for layer in range(32)
            for name, size in {
                **{f"self_attn.{part}_proj": (4096, 4096) for part in "qkvo"},
                **{f"mlp.{part}_proj": (11008, 4096) for part in ("gate", "up", "down")},
                **{f"{part}_layernorm": (4096,) for part in ("input", "post_attention")},
            }.items()
        },
    },
    13_476_839_424,
)
T = SEVEN_BILLION.parameters


@pytest.mark.parametrize(
    ("name", "device", "host"),
    [
        ("ddp", 16 * T, 0),
        ("zero1", 4 * T + 4 * T + 16 * T / 8, 0),  # weights, gradients, a part of AdamW's state
        ("zero2", 4 * T + 4e9 + 16 * T / 8, 0),  # two buckets of gradients
        ("zero3", 4 * T / 8 + 16 * T / 8 + 4e9 + 2e9, 0),  # weights gathered, and a bucket
        ("zero3-offload", 4e9 + 2e9, 20 * T / 8),
        ("fsdp2", 16 * T / 8 + 8 * (0.262e9 + (T - 0.262e9) / 16), 0),  # two of 32 layers gathered
        ("a100x8", 16 * T / 8 + 4 * T + 4 * (0.262e9 + (T - 0.262e9) / 16), 0),
        ("multi-node", 16 * T / 16 + 8 * (0.262e9 + (T - 0.262e9) / 16), 0),
    ],
)
def test_what_ranks_divide_among_them(name: str, device: float, host: float) -> None:
    found = launch.read_launch(CONFIGS / f"{name}.yaml")
    assert found is not None
    assert _state(TrainSettings(), SEVEN_BILLION, T, found) == pytest.approx((device, host), rel=0.01)


def test_the_weights_under_an_adapter_are_divided_where_weights_are() -> None:
    state = {}
    for name in ("ddp", "zero2", "zero3-offload", "fsdp2"):
        found = launch.read_launch(CONFIGS / f"{name}.yaml")
        assert found is not None
        state[name] = _state(
            TrainSettings.model_validate({"adapter": {}, "precision": "bf16"}), SEVEN_BILLION, 10**7, found
        )
    assert state["ddp"][0] == pytest.approx(2 * T + 16e7, rel=0.01)
    assert state["zero2"][0] == pytest.approx(2 * T, rel=0.02)
    assert state["zero3-offload"][1] == pytest.approx(2 * T / 8, rel=0.02)
    assert state["fsdp2"][0] == pytest.approx(2 * T / 8 + 2 * (0.262e9 + (T - 0.262e9) / 16), rel=0.02)


CPU = Machine(cores=2, memory=24 << 30, flags=frozenset({"avx512_bf16"}), accelerators=())
A100S = dataclasses.replace(CPU, memory=1 << 40, accelerators=(Accelerator("A100", 80 << 30, (8, 0)),) * 8)


@pytest.mark.parametrize(("name", "fits"), [("ddp", False), ("zero2", True), ("zero3", True), ("fsdp2", True)])
def test_whether_it_fits_is_told_here_and_elsewhere(name: str, fits: bool) -> None:
    """Of GPUs that are not there what it would take is told, in the format that they compute in."""
    settings = TrainSettings.model_validate({"batch_tokens": 8192, "gradient_checkpointing": True})
    found = launch.read_launch(CONFIGS / f"{name}.yaml")
    there, here = (estimate(settings, SEVEN_BILLION, {}, machine, found) for machine in (A100S, CPU))
    assert any("on each GPU" in problem for problem in there.problems) != fits
    needs = [note for note in there.notes if "on each of 8 GPUs" in note]
    assert len(needs) == 1
    assert needs[0] in here.notes
    assert any("this machine has" in problem for problem in here.problems)
    assert here.seconds is None


def test_offloading_is_counted_in_host_memory() -> None:
    settings = TrainSettings.model_validate({"batch_tokens": 8192})
    plain, off = (
        estimate(settings, SEVEN_BILLION, {}, A100S, launch.read_launch(CONFIGS / f"{name}.yaml"))
        for name in ("ddp", "zero3-offload")
    )
    assert plain.memory == pytest.approx(8 * (4 * T + 1.4e9), rel=0.1)  # each rank loads the model
    assert off.memory == plain.memory, "what is offloaded takes the place of the model that was loaded"

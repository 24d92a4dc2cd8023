"""What the train stage says before it runs: settings that do not go together, problems here, and estimates."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.machine import Accelerator, Machine
from llmtune.models.adapters import adapter_parameters
from llmtune.models.shape import read_shape
from llmtune.stages.stage import Forecast, Plan
from llmtune.stages.train import TrainStage
from llmtune.training.estimate import row_problem
from llmtune.training.launch import read_launch
from llmtune.training.precision import chosen_precision
from tests.tiny import tiny_checkpoint, tiny_model
from tests.training.test_isolation import opt_model

CONFIGS = Path(__file__).parents[2] / "accelerate_configs"
CPU = Machine(cores=2, memory=24 << 30, flags=frozenset({"avx512_bf16"}), accelerators=())
A100 = Accelerator("A100", 80 << 30, (8, 0))
CORPUS = Forecast("corpus", 1000, tokens={"train": 500_000, "valid": 30_000})
GPUS = dataclasses.replace(CPU, accelerators=(A100,) * 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


def plan(model: Path, machine: Machine = CPU, **settings: Any) -> Plan:
    shape = read_shape(model)
    inputs = {
        "checkpoint": Forecast("checkpoint", shape.bytes, shape),
        "corpus": CORPUS,
    }
    return TrainStage.model_validate(settings).plan(inputs, machine)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 10, "epochs": 1}, "tokens and epochs"),
        ({"row_tokens": 512, "batch_tokens": 256}, "less than one row"),
        ({"adapter": {"type": "qlora"}, "compile": True}, "compile does not work on 4-bit"),
        ({"mask": {}}, "Extra inputs"),
        ({"masking": {"type": "causal", "whole_words": True}}, "whole_words is for masking type mlm"),
        ({"precision": "int4"}, "precision"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainStage.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "machine", "message"),
    [
        ({"precision": "fp8"}, CPU, "fp8"),
        ({"precision": "fp8"}, GPUS, "fp8"),
        ({"precision": "fp16"}, CPU, "fp16 needs a GPU"),
        ({"device": "cuda"}, CPU, "no CUDA device"),
        ({"launch": "nowhere.yaml"}, CPU, "nowhere.yaml is not there"),
        ({"launch": CONFIGS / "ddp.yaml"}, CPU, "8 GPUs are asked for, this machine has none"),
        ({"launch": CONFIGS / "zero3.yaml"}, CPU, "8 processes are more than"),
        ({"launch": CONFIGS / "zero3.yaml", "adapter": {"type": "qlora"}}, GPUS, "qlora does not go with ZeRO-3"),
        ({"launch": CONFIGS / "a100x8.yaml", "adapter": {"type": "qlora"}}, GPUS, "does not go with ZeRO-3 or FSDP2"),
        ({"launch": CONFIGS / "zero2.yaml", "precision": "fp16"}, GPUS, "fp16 does not go with a launch by DeepSpeed"),
        ({"launch": CONFIGS / "a100x8.yaml", "precision": "fp16"}, GPUS, "fp16 does not go with a launch by DeepSpeed"),
        ({"launch": CONFIGS / "multi-node.yaml"}, GPUS, "start the whole run on each"),
        ({"launch": CONFIGS / "zero2.yaml", "batch_tokens": 1024}, GPUS, "fewer than the 8 processes"),
        (
            {"precision": "bf16"},
            dataclasses.replace(CPU, accelerators=(Accelerator("V100", 32 << 30, (7, 0)),)),
            "Ampere",
        ),
        ({}, dataclasses.replace(CPU, accelerators=(Accelerator("small", 200 << 20, (8, 0)),)), "on each GPU"),
    ],
)
def test_problems_here(model: Path, settings: dict[str, Any], machine: Machine, message: str) -> None:
    problems = plan(model, machine, **settings).problems
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_configurations_are_understood(model: Path, name: str) -> None:
    launch = read_launch(CONFIGS / name)
    assert launch is not None
    machine = CPU if "cpu" in name else GPUS
    problems = plan(model, machine, launch=CONFIGS / name, batch_tokens=8192).problems
    assert len(problems) == (name == "multi-node.yaml"), problems
    text = (CONFIGS / name).read_text()
    assert text.startswith("# ")  # says when to use it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: MEGATRON_LM", "MEGATRON_LM is not supported; use NO"),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}", "FSDP 1 is not supported"),
        ("distributed_type: FSDP", "FSDP 1 is not supported"),
        ("distributed_type: FSDP\nfsdp_config: {version: 2, offload_params: true}", "zero3-offload.yaml"),
        (
            "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_activation_checkpointing: true}",
            "gradient_checkpointing: true in the recipe",
        ),
        ("distributed_type: FSDP\nuse_cpu: true\nfsdp_config: {fsdp_version: 2}", "switches FSDP off"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}", "deepspeed_config_file"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 0}", "zero_stage 0 is not supported"),
        ("distributed_type: MULTI_CPU\nnum_processes: 2", "starts one process only"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {offload_optimizer_device: nvme}", "use none or cpu"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, offload_param_device: cpu}", "zero_stage 3"),
        ("distributed_type: FSDP\nnum_processes: eight", "has a value of the wrong kind"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: }", "has a value of the wrong kind"),
        ("[1, 2", "is not YAML"),
        ("name: x", "not a configuration of accelerate"),
    ],
)
def test_launches_that_cannot_be_used(model: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "launch.yaml").write_text(text)
    problems = plan(model, launch=tmp_path / "launch.yaml").problems
    assert any(message in problem for problem in problems), problems


def test_nothing_wrong_here(model: Path) -> None:
    estimate = plan(model)
    assert estimate.problems == ()
    assert estimate.makes.kind == "checkpoint"
    assert estimate.seconds is not None
    assert not any("bf16" in note for note in estimate.notes)


OLD_CPU = dataclasses.replace(CPU, flags=frozenset({"avx2", "avx512f"}))
T4 = dataclasses.replace(OLD_CPU, accelerators=(Accelerator("T4", 16 << 30, (7, 5)),))


@pytest.mark.parametrize(
    ("machine", "device", "chosen"),
    [
        (CPU, "auto", "bf16"),
        (OLD_CPU, "auto", "fp32"),
        (T4, "auto", "fp32"),
        (dataclasses.replace(OLD_CPU, accelerators=(A100,)), "auto", "bf16"),
        (dataclasses.replace(OLD_CPU, accelerators=(A100,)), "cpu", "fp32"),
    ],
)
def test_auto_precision_is_the_one_the_device_computes_in(machine: Machine, device: str, chosen: str) -> None:
    assert chosen_precision("auto", device, machine) == chosen
    assert chosen_precision("bf16", device, machine) == "bf16"  # what is asked for is not second-guessed


def test_a_cpu_without_bf16_is_planned_in_fp32(model: Path) -> None:
    automatic, asked, slow = (
        plan(model, OLD_CPU, tokens=10**9),
        plan(model, OLD_CPU, tokens=10**9, precision="fp32"),
        plan(model, OLD_CPU, tokens=10**9, precision="bf16"),
    )
    assert (automatic.memory, automatic.seconds) == (asked.memory, asked.seconds)
    assert (slow.seconds or 0) > 2 * (asked.seconds or 0)
    avx2 = dataclasses.replace(OLD_CPU, flags=frozenset({"sse2"}))
    slower, slowest = (plan(model, avx2, tokens=10**9, precision=precision) for precision in ("fp32", "bf16"))
    assert (slower.seconds or 0) > 1.5 * (asked.seconds or 0)
    assert (slowest.seconds or 0) > 20 * (slower.seconds or 0)
    for estimate in (automatic, slow):
        assert any("no bf16 arithmetic" in note for note in estimate.notes)


def test_a_quantized_base_and_rows_beyond_learned_positions_are_refused(model: Path, tmp_path: Path) -> None:
    shape = read_shape(model)
    codes = {**shape.config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    for adapter in (None, {}):
        inputs = {"checkpoint": Forecast("checkpoint", 1, dataclasses.replace(shape, config=codes))}
        found = TrainStage.model_validate({"adapter": adapter}).plan({**inputs, "corpus": CORPUS}, CPU)
        assert any("quantized (bitsandbytes)" in problem for problem in found.problems)
    gpt2 = tiny_checkpoint(tmp_path / "gpt2", "gpt2")
    assert any("256 positions" in problem for problem in plan(gpt2, row_tokens=512).problems)
    assert plan(gpt2, row_tokens=256, batch_tokens=512).problems == ()
    opt_model().save_pretrained(tmp_path / "opt")  # a table of 66 rows, of which the first two are for no position
    assert row_problem(64, read_shape(tmp_path / "opt")) is None
    assert "64 positions" in str(row_problem(65, read_shape(tmp_path / "opt")))


def test_estimates_follow_the_settings(model: Path) -> None:
    base = plan(model, row_tokens=128)
    for changes in ({"micro_batch": 8}, {"row_tokens": 256}, {"precision": "fp32"}):
        assert plan(model, **{"row_tokens": 128, **changes}).memory > base.memory, changes
    for changes in ({"adapter": {}}, {"gradient_checkpointing": True}):
        assert plan(model, **{"row_tokens": 128, **changes}).memory < base.memory, changes
    assert plan(model, launch=CONFIGS / "zero2-cpu.yaml").memory > 1.5 * base.memory
    assert (plan(model, tokens=50_000).seconds or 0) < (base.seconds or 0) < (plan(model, epochs=3).seconds or 0)
    assert plan(model, adapter={}).disk < base.disk
    assert (plan(model, row_tokens=128, lr="auto").seconds or 0) > (base.seconds or 0)
    assert plan(model, adapter={"type": "dora"}).memory > plan(model, adapter={}).memory
    one_gpu = dataclasses.replace(GPUS, accelerators=(A100,))  # bound by the number of micro-batches, not their size
    small, large = (plan(model, one_gpu, batch_tokens=16_384, micro_batch=rows).seconds or 0 for rows in (1, 32))
    assert small > large


def test_the_state_to_go_back_to_takes_disk_beside_other_checkpoints(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model", hidden=256, layers=4)
    base = plan(model)
    assert plan(model, checkpoint_steps=3, guard=None).disk == base.disk
    weights = read_shape(model).parameters
    assert plan(model, checkpoint_steps=3).disk == base.disk + (12 + 4) * weights  # and the best weights till then


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize(
    "adapter",
    [{"rank": 8}, {"type": "dora", "rank": 4}, {"rank": 3, "targets": ["0.mlp.down_proj"]}],
)
def test_adapter_parameters_are_those_of_peft(tmp_path: Path, family: str, adapter: dict[str, Any]) -> None:
    from llmtune.models.adapters import attach

    if family == "gpt2" and "targets" in adapter:
        adapter = {"rank": 3, "targets": ["0.mlp.c_proj"]}
    stage = TrainStage.model_validate({"adapter": adapter})
    assert stage.adapter is not None
    adapted = attach(tiny_model(family), stage.adapter, 0)
    expected = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert adapter_parameters(stage.adapter, read_shape(tiny_checkpoint(tmp_path, family))) == expected


def test_identity_is_by_contents(tmp_path: Path) -> None:
    text = (CONFIGS / "zero2-cpu.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("# moved, with another comment\n" + text)
    (tmp_path / "c.yaml").write_text(text.replace("num_processes: 2", "num_processes: 4"))
    a, b, c = (TrainStage(launch=tmp_path / f"{name}.yaml").identity() for name in "abc")
    assert a == b != c
    assert TrainStage().identity() == TrainStage(checkpoint_steps=3, id="other").identity()
    assert TrainStage().identity() != TrainStage(micro_batch=2).identity()


def test_planning_loads_no_torch() -> None:
    parts = "llmtune.stages.train, llmtune.training.estimate, llmtune.training.launch"
    code = f"import sys, {parts}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

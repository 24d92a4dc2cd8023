"""What a configuration file of `accelerate launch` asks for, as far as a plan must know. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.files import fingerprint
from llmtune.shipped import shipped_folder

EXAMPLES = "accelerate_configs"
# As accelerate calls them, and how a message does.
SUPPORTED = {"NO": "one process", "MULTI_GPU": "DDP", "DEEPSPEED": "ZeRO-1, 2, 3", "FSDP": "FSDP2"}


@dataclass(frozen=True)
class Launch:
    """A launch configuration.

    identity:  fingerprint of its values (comments and order do not count); what tells one from another
    processes: ranks in all, over all `machines`
    library:   "deepspeed", "fsdp", or "" for one process and DDP
    gpus:      whether the ranks need a GPU each
    spread:    what is divided among the ranks: 0 nothing, 1 AdamW's state, 2 gradients too, 3 weights too
    offload_state, offload_weights: whether AdamW's state and gradients, or this rank's part of the weights, stay in
               host memory
    problem:   why the file cannot be used, as a sentence
    """

    identity: str
    processes: int = 1
    machines: int = 1
    library: str = ""
    gpus: bool = False
    spread: int = 0
    offload_state: bool = False
    offload_weights: bool = False
    problem: str | None = None

    @property
    def here(self) -> int:
        """Ranks on one machine."""
        return -(-self.processes // self.machines)


def read_launch(path: Path | None) -> Launch | None:
    """The launch configuration at `path`; None for None. A file that cannot be used comes with its `problem`."""
    if path is None:
        return None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        return Launch(identity="", problem=f"launch: the file {path.absolute()} {reason}; {_examples()}")
    except YAMLError as error:
        return Launch(identity="", problem=f"launch: {path.name} is not YAML ({str(error).splitlines()[0]})")
    if not isinstance(values, dict) or "distributed_type" not in values:
        return Launch(identity="", problem=f"launch: {path.name} is not a configuration of accelerate")
    try:
        return _from_values(values)
    except (TypeError, ValueError) as error:  # where a number should stand
        return Launch(identity="", problem=f"launch: {path.name} has a value of the wrong kind ({error})")


def _examples() -> str:
    folder = shipped_folder(EXAMPLES)
    return f"examples are in {folder}" if folder else f"examples are in llmtune's source, folder {EXAMPLES}/"


def _from_values(values: dict[str, Any]) -> Launch:
    kind = str(values["distributed_type"]).upper()
    deepspeed = _block(values, kind, "DEEPSPEED")
    fsdp = {key if key.startswith("fsdp") else f"fsdp_{key}": it for key, it in _block(values, kind, "FSDP").items()}
    stage = int(deepspeed.get("zero_stage", 2))
    return Launch(
        identity=fingerprint(values),
        processes=1 if kind == "NO" else max(1, int(values.get("num_processes") or 1)),
        machines=max(1, int(values.get("num_machines") or 1)),
        library=kind.lower() if kind in ("DEEPSPEED", "FSDP") else "",
        gpus=not values.get("use_cpu") and kind == "MULTI_GPU",
        spread=stage if kind == "DEEPSPEED" else _fsdp_spread(fsdp) if kind == "FSDP" else 0,
        offload_state=_offload(deepspeed, "optimizer") != "none",
        offload_weights=_offload(deepspeed, "param") != "none",
        problem=_problem(kind, values) or _deepspeed_problem(deepspeed, stage) or _fsdp_problem(kind, fsdp),
    )


def _block(values: dict[str, Any], kind: str, wanted: str) -> dict[str, Any]:
    """The options of a library, empty for another kind of launch."""
    found = values.get(f"{wanted.lower()}_config") if kind == wanted else None
    return found if isinstance(found, dict) else {}


def _offload(deepspeed: dict[str, Any], what: str) -> str:
    return str(deepspeed.get(f"offload_{what}_device") or "none").lower()


def _fsdp_spread(fsdp: dict[str, Any]) -> int:
    """Weights that stay gathered from the forward to the backward pass are as good as whole."""
    return 2 if str(fsdp.get("fsdp_reshard_after_forward", True)).lower() == "false" else 3


def _problem(kind: str, values: dict[str, Any]) -> str | None:
    if kind == "MULTI_CPU":
        return f"launch: distributed_type MULTI_CPU starts one process only; use fsdp2-cpu.yaml ({_examples()})"
    if kind not in SUPPORTED:
        known = ", ".join(f"{name} ({words})" for name, words in SUPPORTED.items())
        return f"launch: distributed_type {kind} is not supported; use {known}"
    if kind in ("DEEPSPEED", "FSDP") and values.get("use_cpu"):
        return f"launch: use_cpu: true switches {kind} off; set it to false, the CPU is used where there is no GPU"
    if int(values.get("num_machines") or 1) > 1:
        return (
            "launch: a recipe starts the processes of its own machine only; for several machines, start the whole run "
            "on each by `accelerate launch --config_file FILE --machine_rank N -m llmtune run RECIPE`"
        )
    return None


def _deepspeed_problem(deepspeed: dict[str, Any], stage: int) -> str | None:
    if deepspeed.get("deepspeed_config_file"):
        return (
            "launch: deepspeed_config_file is not supported (what stands in it would not be part of what a result is "
            "known by); write zero_stage and offload_optimizer_device into deepspeed_config instead"
        )
    if stage not in (1, 2, 3):
        return f"launch: zero_stage {stage} is not supported; use 1, 2 or 3, or ddp.yaml ({_examples()})"
    for what in ("optimizer", "param"):
        if _offload(deepspeed, what) not in ("none", "cpu"):
            return f"launch: offload_{what}_device {_offload(deepspeed, what)} is not supported; use none or cpu"
    if _offload(deepspeed, "param") == "cpu" and (stage < 3 or _offload(deepspeed, "optimizer") == "none"):
        return "launch: offload_param_device: cpu goes with zero_stage 3 and offload_optimizer_device: cpu only"
    return None


def _fsdp_problem(kind: str, fsdp: dict[str, Any]) -> str | None:
    if kind != "FSDP":
        return None
    if str(fsdp.get("fsdp_version", 1)) != "2":
        return "launch: FSDP 1 is not supported; set fsdp_version: 2 in fsdp_config"
    if fsdp.get("fsdp_offload_params"):
        return f"launch: fsdp_offload_params is not supported; use zero3-offload.yaml ({_examples()})"
    if fsdp.get("fsdp_activation_checkpointing"):
        return "launch: fsdp_activation_checkpointing is not read; set gradient_checkpointing: true in the recipe"
    return None

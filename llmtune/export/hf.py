"""Bundles for transformers: the checkpoint's own files, or its adapter alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmtune.errors import BadArtifact
from llmtune.files import read_json, write_json
from llmtune.monitor import Monitor

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py", "LICEN[CS]E*", "NOTICE*")
# Ours, or about training, or about the folder it was.
_LEFT_OUT = frozenset({"artifact.json", "location.json", "trainer_state.json", "verification.json"})
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "chat_template*")
_CHUNK = 16 << 20


def files_of(checkpoint: Path) -> list[Path]:
    """The files that make the checkpoint, by name; nothing of subfolders, training state or other formats."""
    found = {path for pattern in _FILES for path in checkpoint.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.name not in _LEFT_OUT)


def export_checkpoint(checkpoint: Path, target: Path, monitor: Monitor | None = None) -> int:
    """Copy a checkpoint's files into `target`; returns their bytes. Raises BadArtifact when the folder is damaged."""
    from llmtune.models.shape import read_shape

    read_shape(checkpoint)
    monitor = monitor or Monitor()
    files = files_of(checkpoint)
    total = sum(path.stat().st_size for path in files)
    with monitor.bar("copying", total, "bytes") as bar:
        for path in files:
            with path.open("rb") as source, (target / path.name).open("wb") as copy:
                while block := source.read(_CHUNK):
                    monitor.safe_point()
                    copy.write(block)
                    bar.advance(len(block))
    return total


def export_adapter(checkpoint: Path, base: Path, base_name: str, target: Path) -> int:
    """Copy the adapter of a checkpoint into `target`, with its tokenizer and the public name of its base; returns the
    bytes. Raises BadArtifact when there is none, or when it was trained on another base than `base`."""
    from llmtune.models.adapter_files import CONFIG, WEIGHTS, check_adapter_fits

    adapter = checkpoint / "adapter"
    if not adapter.is_dir():
        raise BadArtifact(
            "this checkpoint has no adapter: all of its weights were trained",
            where=checkpoint.name,
            fix="export it with format: hf, or train with `adapter:`",
        )
    check_adapter_fits(adapter, base)
    config = read_json(adapter / CONFIG)
    shutil.copyfile(adapter / WEIGHTS, target / WEIGHTS)
    write_json(target / CONFIG, config | {"base_model_name_or_path": config["base_model_name_or_path"] or base_name})
    for pattern in _TOKENIZER:
        for path in checkpoint.glob(pattern):
            shutil.copyfile(path, target / path.name)
    return sum(path.stat().st_size for path in target.iterdir() if path.is_file())

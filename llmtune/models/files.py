"""Which files make a checkpoint, so that whoever copies one takes the same ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "*.tiktoken",
    "chat_template*", "additional_chat_templates/*",
)  # fmt: skip
# What goes on unchanged when the weights become others: tokenizer, generation settings, code of its own, licence.
BESIDE_WEIGHTS = (
    *TOKENIZER, "generation_config.json", "preprocessor_config.json", "processor_config.json", "*.py", "LICEN[CS]E*",
    "NOTICE*",
)  # fmt: skip
CHECKPOINT = ("config.json", "*.safetensors", "*.safetensors.index.json", *BESIDE_WEIGHTS)


def files_of(folder: Path, patterns: Sequence[str] = CHECKPOINT) -> list[Path]:
    """The files of a checkpoint folder that meet one of the patterns, in the order of their names."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def copy_files(folder: Path, target: Path, patterns: Sequence[str]) -> None:
    """Copy those files into `target`, at the same places."""
    for path in files_of(folder, patterns):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def model_in(folder: Path) -> Path | None:
    """The model that a folder holds: the folder itself when it is a Hugging Face model with its weights, else a GGUF
    file in it (the first by name), else the folder when it has at least a config.json; None when it holds none."""
    has_config = (folder / "config.json").is_file()
    if has_config and any(folder.glob("*.safetensors")):
        return folder
    gguf = min(folder.glob("*.gguf"), default=None)
    return gguf or (folder if has_config else None)

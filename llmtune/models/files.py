"""Which files make a checkpoint, so that whoever copies one takes the same ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from llmtune.errors import BadArtifact

TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "*.spm",
    "*.tiktoken", "chat_template*", "additional_chat_templates/*",
)  # fmt: skip
# What goes on unchanged when the weights become others: tokenizer, generation settings, code of its own, licence.
BESIDE_WEIGHTS = (
    *TOKENIZER, "generation_config.json", "preprocessor_config.json", "processor_config.json", "*.py", "LICEN[CS]E*",
    "NOTICE*",
)  # fmt: skip
CHECKPOINT = ("config.json", "*.safetensors", "*.safetensors.index.json", *BESIDE_WEIGHTS)
_A_MODEL = "name a .gguf file, or a folder with config.json and model.safetensors"


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


def model_at(place: Path) -> Path:
    """The model that a file or folder is: a GGUF file itself, or what `model_in` finds. Raises BadArtifact saying what
    is there instead."""
    if place.is_file():
        if place.suffix == ".gguf":
            return place
        raise BadArtifact("is a file but no .gguf, not a model", where=str(place), fix=_A_MODEL)
    found = model_in(place)
    if found is not None:
        return found
    if (place / "adapter_config.json").is_file():
        raise BadArtifact(
            "holds an adapter alone, which is no model without its base",
            where=str(place),
            fix="name the checkpoint that it was merged into, or the model that it was trained on",
        )
    if (place / "card.json").is_file():
        raise BadArtifact("is a corpus, not a model", where=str(place), fix=_A_MODEL)
    raise BadArtifact("holds no model (no config.json, no .gguf file)", where=str(place), fix=_A_MODEL)

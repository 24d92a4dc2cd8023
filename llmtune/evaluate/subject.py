"""The model that is measured: a checkpoint folder, or a bundle with a GGUF file or a Hugging Face folder in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact


@dataclass(frozen=True)
class Subject:
    """folder: the Hugging Face folder, or the one that holds the GGUF file; gguf: that file, or None."""

    folder: Path
    gguf: Path | None

    @property
    def bytes(self) -> int:
        """Bytes of the weights' own files on disk."""
        files = [self.gguf] if self.gguf else list(self.folder.glob("*.safetensors"))
        return sum(file.stat().st_size for file in files if file)

    @property
    def measured_with(self) -> str:
        """What the quality figures were measured in."""
        return "transformers, weights read back from the GGUF file" if self.gguf else "transformers"

    def load(self) -> tuple[Any, Any]:
        """(model, tokenizer) in transformers, on the accelerator where there is one."""
        from llmtune.models.load import load_model, load_tokenizer

        if self.gguf is not None:
            model, tokenizer = _load_gguf(self.gguf)
        else:
            model, tokenizer = load_model(self.folder), load_tokenizer(self.folder)
        return _on_device(model), tokenizer


def find_subject(folder: Path) -> Subject:
    """What to measure in an artifact's folder, or of a file; raises BadArtifact when there is no model."""
    if folder.is_file() and folder.suffix == ".gguf":
        return Subject(folder.parent, folder)
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return Subject(folder, ggufs[0])
    if (folder / "config.json").is_file():
        return Subject(folder, None)
    raise BadArtifact(
        "no config.json and no .gguf file: not a model that can be measured alone",
        where=str(folder),
        fix="an adapter is measured by its merged checkpoint",
    )


def _load_gguf(file: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmtune.models.load import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return model.eval(), tokenizer


def _on_device(model: Any) -> Any:
    import torch

    if torch.accelerator.is_available() and not getattr(model, "hf_device_map", None):
        return model.to(torch.accelerator.current_accelerator())
    return model

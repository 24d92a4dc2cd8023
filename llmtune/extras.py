"""Optional dependencies: import one, or say which extra to install."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from llmtune.errors import MissingExtra

# top-level module → the extra of llmtune that installs it
EXTRA_OF = {
    "chardet": "corpus",
    "chardetng_py": "corpus",
    "docutils": "corpus",
    "ftfy": "corpus",
    "mammoth": "corpus",
    "phonenumbers": "corpus",
    "pptx": "corpus",
    "py3langid": "corpus",
    "pypdfium2": "corpus",
    "ray": "ray",
    "rensa": "corpus",
    "selectolax": "corpus",
    "stdnum": "corpus",
    "llmcompressor": "quantize",
    "compressed_tensors": "quantize",
    "bitsandbytes": "bitsandbytes",
    "gguf": "gguf",
    "xllamacpp": "gguf",
    "convert_hf_to_gguf": "gguf",
    "deepspeed": "deepspeed",
    "sacrebleu": "augment",
    "sentencepiece": "augment",
    "optuna": "search",
    "cleanlab": "annotate",
    "sklearn": "annotate",
    "aiohttp": "remote",
    "gcsfs": "remote",
    "huggingface_hub": "remote",
    "fsspec": "remote",
    "s3fs": "remote",
}


def have(module: str) -> bool:
    """Whether `module` could be imported (it is not imported)."""
    return importlib.util.find_spec(module.split(".")[0]) is not None


def missing(module: str, needed_for: str) -> MissingExtra:
    """The error to raise, or to list in a plan, when `module` is not installed."""
    extra = EXTRA_OF[module.split(".")[0]]
    return MissingExtra(
        f"{needed_for} needs the Python package '{module.split('.')[0]}', which is not installed",
        fix=f"pip install 'llmtune[{extra}]'",
    )


def need(module: str, needed_for: str) -> ModuleType:
    """Import an optional module, or raise MissingExtra naming the extra. `needed_for` starts the message."""
    if not have(module):
        raise missing(module, needed_for)
    return importlib.import_module(module)

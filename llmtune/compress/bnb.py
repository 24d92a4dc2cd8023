"""NF4 and LLM.int8() through bitsandbytes, as transformers stores and loads them.

NF4: Dettmers et al., https://arxiv.org/abs/2305.14314 (blocks of 64, scales quantized again). LLM.int8(): Dettmers et
al., https://arxiv.org/abs/2208.07339 (one scale a row).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmtune.compress.grid import ignored
from llmtune.compress.groupwise import refuse_leftovers
from llmtune.errors import LlmtuneError
from llmtune.extras import need

if TYPE_CHECKING:
    from torch import nn


def load_rounded(
    checkpoint: Path, method: Literal["nf4", "int8"], ignore: Sequence[str], *, trust_remote_code: bool = False
) -> tuple[Any, int]:
    """The model of a checkpoint with its linear layers (GPT-2's Conv1D included) in NF4 or int8, ready to be saved, and
    how many they are. The weights go straight from file to codes; everything else is bf16.

    Raises LlmtuneError when a layer that should be rounded was not, or none is left.
    """
    need("bitsandbytes", f"quantization by {method}")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    wanted, skipped = _split(skeleton, ignore)
    refuse_leftovers(skeleton, wanted, ignore)
    if method == "nf4":
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=skipped,
        )
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    device = 0 if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        quantization_config=settings,
        dtype=torch.bfloat16,
        device_map={"": device},
        trust_remote_code=trust_remote_code,
    )
    _check_all_rounded(model, wanted, skipped)
    return model, len(wanted)


def _split(skeleton: nn.Module, ignore: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the linear layers to round, and of those to leave. A head that shares its table is always left."""
    import torch
    from transformers.pytorch_utils import Conv1D

    tied = bool(getattr(skeleton.config, "tie_word_embeddings", False))
    head = skeleton.get_output_embeddings() if tied else None  # type: ignore[operator]
    wanted: list[str] = []
    skipped: list[str] = []
    for name, module in skeleton.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)):
            (skipped if module is head or ignored(name, ignore) else wanted).append(name)
    return wanted, skipped


def _check_all_rounded(model: nn.Module, wanted: list[str], skipped: list[str]) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    done = {name for name, module in model.named_modules() if isinstance(module, (Linear4bit, Linear8bitLt))}
    missed = sorted(set(wanted) - done)
    if missed:
        raise LlmtuneError(
            f"bitsandbytes left {len(missed)} of {len(wanted)} linear layers unrounded",
            where=missed[0],
            fix="add them to `ignore` to keep them in bf16, or use method gptq",
        )
    extra = sorted(done & set(skipped))
    if extra:
        raise LlmtuneError("a layer named in `ignore` was rounded", where=extra[0], fix="report this as a bug")

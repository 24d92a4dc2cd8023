"""Low-rank adapters: attach them to a model, save them, merge them into the weights they were trained on.

LoRA (Hu et al. 2021, arXiv:2106.09685): W' = W + (alpha/r)·B·A. DoRA (Liu et al. 2024, arXiv:2402.09353): the same,
with the length of each row of W' learned on its own. QLoRA (Dettmers et al. 2023, arXiv:2305.14314): LoRA over weights
that are kept in 4 bits (NF4) and read back for each product.
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llmtune.errors import LlmtuneError
from llmtune.extras import need
from llmtune.models.adapter_files import check_adapter_fits, save_adapter
from llmtune.models.families import CONV1D_FAMILIES
from llmtune.models.load import load_model, refuse_quantized
from llmtune.models.merge import NAME, is_4bit, layers_of, merge
from llmtune.models.shape import read_config
from llmtune.seeds import seed_of
from llmtune.settings import Settings

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    from llmtune.models.shape import ModelShape

__all__ = [
    "AdapterSettings",
    "adapter_parameters",
    "attach",
    "check_adapter_fits",
    "load_for_qlora",
    "merge",
    "save_adapter",
]


class AdapterSettings(Settings):
    """A low-rank adapter: train a few numbers beside each weight matrix instead of the matrix."""

    type: Literal["lora", "dora", "qlora"] = Field(
        "lora",
        description="`lora`; `dora` (also learns the length of each row; slower); `qlora` (LoRA over the base in 4 "
        "bits: least memory, needs the extra `bitsandbytes`).",
    )
    rank: int = Field(16, ge=1, le=1024, description="Rank r of the update.")
    alpha: float | None = Field(
        None, gt=0, description="Scale: the update is multiplied by alpha / rank. Default: 2·rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the adapter's inputs set to zero while training.")
    targets: list[str] | None = Field(
        None,
        min_length=1,
        description="Names of the linear layers to adapt, as [q_proj, v_proj]. Default: all but the output head.",
    )


def load_for_qlora(
    folder: Path, dtype: str = "bfloat16", device: str | torch.device = "cpu", *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The base of a QLoRA run: linear layers but the head in NF4 (double quantization), the rest and the products in
    `dtype`. The stored codes never change afterwards, whatever the model is used for.

    Raises MissingExtra without bitsandbytes, CannotRunHere for a base that is quantized already, BadArtifact as
    `load_model` does.
    """
    need("bitsandbytes", "QLoRA")
    refuse_quantized(read_config(folder), folder)
    import torch
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    model = load_model(
        folder, dtype, trust_remote_code=trust_remote_code, quantization_config=quantization, device_map={"": device}
    )
    for module in model.modules():
        if is_4bit(module):
            # In eval mode on CPUs with AVX512-BF16, bitsandbytes repacks a layer for speed and rounds its scales to
            # bf16 for good: the first validation would change the base that the rest of the training sees.
            module.support_avx512bf16_for_cpu = False
    return model


def attach(model: PreTrainedModel, settings: AdapterSettings, seed: int) -> PeftModel:
    """Put an adapter on a model; only its weights (fp32) are trained. The model is changed in place.

    The first weights depend on the seed and the layers' names alone: not on the device, the order of layers, or what
    random numbers were drawn before. Raises LlmtuneError for targets that the model does not have.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    if settings.type == "qlora" and not any(is_4bit(module) for module in model.modules()):
        raise LlmtuneError("a QLoRA adapter needs a base in 4 bits", fix="load it with load_for_qlora")
    targets = _target_names(model, settings)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank if settings.alpha is None else settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_dora=settings.type == "dora",
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in targets),
        bias="none",
        task_type="CAUSAL_LM" if model.can_generate() else None,
    )
    adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    for name, layer in layers_of(adapted):
        _start(layer, seed_of(seed, name))
    return adapted  # type: ignore[return-value]


def adapter_parameters(settings: AdapterSettings, shape: ModelShape) -> int:
    """Weights of an adapter on a model of `shape`: rank × (inputs + outputs) of each linear layer that it changes
    (DoRA: and its outputs). Routed experts and routers are no linear layers of transformers' models."""
    total = 0
    for name, size in shape.tensors.items():
        layer = name.removesuffix(".weight")
        table = name in (shape.embedding, shape.head) or layer.endswith(("wpe", "embed_positions"))
        routed = ".experts." in name or layer.endswith((".mlp.gate", ".block_sparse_moe.gate"))
        wanted = settings.targets is None or any(layer == t or layer.endswith("." + t) for t in settings.targets)
        if len(size) == 2 and wanted and not table and not routed:
            outputs = size[1] if shape.family in CONV1D_FAMILIES else size[0]
            total += settings.rank * sum(size) + (outputs if settings.type == "dora" else 0)
    return total


def _target_names(model: PreTrainedModel, settings: AdapterSettings) -> list[str]:
    """Full names of the layers to adapt, in the model's order."""
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if _is_linear(module)}
    if settings.targets is None:
        return [name for name, module in linear.items() if module is not head]
    chosen: list[str] = []
    for wanted in settings.targets:
        found = [name for name in linear if name == wanted or name.endswith("." + wanted)]
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            near = difflib.get_close_matches(wanted, ends, 1)
            raise LlmtuneError(
                f"the model has no linear layer '{wanted}' to adapt; it has {', '.join(ends)}",
                fix=f"did you mean {near[0]}?" if near else "leave `targets` out to adapt all of them",
            )
        chosen += found
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    if tied and any(linear[name] is head for name in chosen):
        raise LlmtuneError(
            "the output head shares its weights with the embedding, so an adapter on it cannot be merged",
            fix="take it out of `targets`",
        )
    return list(dict.fromkeys(chosen))


def _is_linear(module: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D)) and getattr(module, "weight", None) is not None


def _start(layer: Any, seed: int) -> None:
    """A uniform in ±1/√inputs (Kaiming with a = √5, as in the paper's code), from the seed alone; B zero."""
    import torch

    a_RI, b_OR = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
    generator = torch.Generator("cpu").manual_seed(seed)
    shape = (layer.r[NAME], layer.in_features)
    values = (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(layer.in_features)
    with torch.no_grad():
        a_RI.copy_(values.to(a_RI))
        b_OR.zero_()

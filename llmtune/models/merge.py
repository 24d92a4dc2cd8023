"""Merge an adapter into the weights it was trained on. torch is imported when merging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmtune.errors import LlmtuneError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

NAME = "default"  # peft's name for the only adapter


def merge(model: PeftModel) -> PreTrainedModel:
    """The plain model whose weights contain the adapter: W + ΔW computed in fp32 and rounded once to the base's format.

    A base in 4 bits is read back first, into the very numbers the adapter was trained against; the result is a model
    in the format of the products (bf16). The base model is changed in place and returned.
    Raises LlmtuneError when no weight changes (an adapter that was never trained, or one put on in vain), and for a
    base in 8-bit or other codes.
    """
    import torch

    from llmtune.models.save import forget_quantizer

    root = model.get_base_model()
    for name, parameter in root.named_parameters():
        if not parameter.is_floating_point() and type(parameter).__name__ != "Params4bit":
            raise LlmtuneError(
                f"this weight of the base is stored as codes ({parameter.dtype}), into which nothing can be merged",
                where=name,
                fix="put the adapter on the model that the base was quantized from",
            )
    changed = 0
    for name, layer in list(layers_of(model)):
        base = layer.get_base_layer()
        weight = _plain(base)
        merged = _merged(layer, weight.float()).to(weight.dtype)
        changed += int(not torch.equal(merged, weight))
        if not bool(torch.isfinite(merged).all()):
            raise LlmtuneError("the merged weight is not finite", where=name, fix="lower the learning rate")
        _replace(root, name, _with_weight(base, merged))
    if not changed:
        raise LlmtuneError(
            "merging this adapter changes no weight of the model",
            fix="it was never trained, or its updates are smaller than the number format can hold",
        )
    for name, module in list(root.named_modules()):
        if is_4bit(module):
            _replace(root, name, _with_weight(module, _plain(module)))
    if hasattr(root, "peft_config"):
        del root.peft_config
    root._hf_peft_config_loaded = False
    if getattr(root, "hf_quantizer", None) is not None:
        forget_quantizer(root)
    return root.eval()


def layers_of(model: PeftModel) -> list[tuple[str, Any]]:
    """(name in the base model, adapted layer) of every layer with an adapter."""
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in model.get_base_model().named_modules() if isinstance(layer, LoraLayer)]


def is_4bit(module: nn.Module) -> bool:
    return type(getattr(module, "weight", None)).__name__ == "Params4bit"


def _plain(base: nn.Module) -> torch.Tensor:
    """A layer's weight as numbers, oriented as it is stored (GPT-2's Conv1D: inputs first; 4 bits: outputs first)."""
    if not is_4bit(base):
        return base.weight.data
    from bitsandbytes.functional import dequantize_4bit

    state = base.weight.quant_state
    if getattr(state, "packing_format_for_cpu", False):
        raise LlmtuneError(
            "bitsandbytes has repacked this 4-bit base and rounded its scales", fix="load the base with load_for_qlora"
        )
    return dequantize_4bit(base.weight.data, state)


def _merged(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """W' in fp32, oriented as `weight`."""
    a_RI, b_OR = layer.lora_A[NAME].weight.float(), layer.lora_B[NAME].weight.float()
    weight_OI = weight.T if layer.fan_in_fan_out else weight
    merged_OI = weight_OI + layer.scaling[NAME] * (b_OR @ a_RI).to(weight.device)
    if layer.use_dora[NAME]:
        magnitude_O = layer.lora_magnitude_vector[NAME].weight.float().to(weight.device)
        merged_OI = merged_OI * (magnitude_O / merged_OI.norm(dim=1))[:, None]
    return merged_OI.T.contiguous() if layer.fan_in_fan_out else merged_OI


def _with_weight(base: nn.Module, weight: torch.Tensor) -> nn.Module:
    """The layer with another weight; in place of a 4-bit layer, one of the class it had in the unquantized model."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if not is_4bit(base):
        base.weight.data = weight
        return base
    outputs, inputs = weight.shape
    bias = base.bias
    plain: nn.Module
    if issubclass(getattr(base, "source_cls", nn.Linear), Conv1D):
        plain, weight = Conv1D(outputs, inputs), weight.T.contiguous()
    else:
        plain = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        plain.bias = bias
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.data.to(weight.dtype), requires_grad=False)
    return plain


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)

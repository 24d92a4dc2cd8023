"""Which mixture of experts a dense model becomes: configuration and tensors, from its shape alone. Imports no torch.

| from           | upcycle   | split     |
| -------------- | --------- | --------- |
| llama, mistral | mixtral   | qwen2_moe |
| qwen2          | qwen2_moe | qwen2_moe |
| qwen3          | qwen3_moe |           |

Mixtral and Qwen3-MoE normalise the weights of the chosen experts, so that copies of one feed-forward give just that
feed-forward. A split needs an expert that is always active, which Qwen2-MoE has. It has no normalisation (nor do
llama.cpp and vLLM for it): the scale of the routed experts' outputs makes up for their weights, see experts.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from llmtune.models.shape import ModelShape

Method = Literal["upcycle", "split"]
TARGETS: dict[Method, dict[str, str]] = {
    "upcycle": {"llama": "mixtral", "mistral": "mixtral", "qwen2": "qwen2_moe", "qwen3": "qwen3_moe"},
    "split": {"llama": "qwen2_moe", "mistral": "qwen2_moe", "qwen2": "qwen2_moe"},
}
# Fields of the dense configuration that the other architecture has too; what is left out keeps its default.
_CARRIED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "tie_word_embeddings",
    "rope_parameters", "rope_theta", "rope_scaling", "attention_dropout", "pad_token_id", "bos_token_id",
    "eos_token_id", "dtype",
)  # fmt: skip
_ARCHITECTURES = {
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
# Where a family keeps the parts of a layer's experts: prefix, (gate, up, down) of an expert.
_STORED = {
    "mixtral": ("block_sparse_moe", ("w1", "w3", "w2")),
    "qwen2_moe": ("mlp", ("gate_proj", "up_proj", "down_proj")),
    "qwen3_moe": ("mlp", ("gate_proj", "up_proj", "down_proj")),
}
PARTS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Layout:
    """How the experts of a layer are made.

    experts: routed ones
    active:  of these for each token
    shared:  of a split: width of the expert that is always active, in widths of a routed one
    """

    method: Method
    experts: int
    active: int
    shared: int = 0

    def width(self, intermediate: int) -> int:
        """Neurons of a routed expert, for a feed-forward part of `intermediate` neurons."""
        return intermediate if self.method == "upcycle" else intermediate // (self.experts + self.shared)

    def shared_width(self, intermediate: int, family: str) -> int:
        """Neurons of the expert that is always active, in a target of `family`; 0: it has none."""
        if self.method == "split":
            return self.shared * self.width(intermediate)
        return intermediate if family == "qwen2_moe" else 0


def experts_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(routed experts of a layer, of these active for a token) of a `config.json`; None for a dense model."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    experts = next((int(text[name]) for name in names if text.get(name)), 0)
    active = next((text[name] for name in ("num_experts_per_tok", "moe_k", "top_k_experts") if text.get(name)), experts)
    return (experts, int(active)) if experts > 1 else None


def active_parameters(shape: ModelShape) -> int:
    """Weights that one token meets: all, but of the routed experts only those that are active for it."""
    found = experts_of(shape.config)
    if found is None:
        return shape.parameters
    experts, active = found
    routed = sum(math.prod(size) for name, size in shape.tensors.items() if ".experts." in name)
    return shape.parameters - routed + routed * active // experts


def active_width(shape: ModelShape) -> int:
    """Neurons of a layer's feed-forward part that one token meets, of the shared and the active routed experts."""
    found = experts_of(shape.config)
    if found is None:
        return shape.intermediate_size
    routed = shape.text.get("moe_intermediate_size") or shape.intermediate_size
    return int(shape.text.get("shared_expert_intermediate_size") or 0) + found[1] * int(routed)


def conversion_problem(shape: ModelShape, layout: Layout) -> str | None:
    """Why a model of this shape cannot be converted so, as a sentence; None when it can."""
    if quantization := shape.config.get("quantization_config"):
        method = quantization.get("quant_method", "an unknown method")
        return f"the weights of the model are quantized ({method}); convert the model that it was made from"
    if experts_of(shape.config):
        return f"this {shape.family} model is a mixture of experts already"
    targets = TARGETS[layout.method]
    if shape.family not in targets or "auto_map" in shape.config:
        code = " with code of their own" if shape.family in targets else ""
        return (
            f"models of type {shape.family}{code} cannot be converted by {layout.method}; those of type "
            f"{', '.join(targets)} can"
        )
    target = targets[shape.family]
    biased = (".bias",) if target == "mixtral" else (".o_proj.bias", *(f".{part}.bias" for part in PARTS))
    bias = next((name for name in shape.tensors if name.endswith(biased)), None)
    if bias is not None and not (target == "qwen3_moe" and "self_attn" in bias):
        return f"{bias} has no place in the {target} architecture that {layout.method} makes"
    if target == "qwen3_moe" and shape.config.get("use_sliding_window"):
        return "qwen3_moe has no layers with sliding windows beside others, which this qwen3 model has"
    width, parts = shape.intermediate_size, layout.experts + layout.shared
    if layout.method == "split" and width % parts:
        fit = [str(number) for number in range(2, 65) if width % number == 0]
        return (
            f"{layout.experts} experts and a shared one {layout.shared} times as wide do not divide the feed-forward "
            f"part, which has {width} neurons; make experts + shared one of {', '.join(fit) or 'its divisors'}"
        )
    return None


def moe_config(shape: ModelShape, layout: Layout) -> dict[str, Any]:
    """The configuration of the result, as transformers' class of the target family takes it."""
    config, width = shape.config, shape.intermediate_size
    family = TARGETS[layout.method][shape.family]
    fields = {name: config[name] for name in _CARRIED if config.get(name) is not None}
    if fields.get("head_dim") == shape.hidden_size // shape.heads:
        del fields["head_dim"]  # the default; some readers of qwen2_moe do not know the field
    fields |= {"model_type": family, "architectures": [_ARCHITECTURES[family]], "num_experts_per_tok": layout.active}
    window = config.get("sliding_window") if shape.family == "mistral" else None
    if family == "mixtral":
        return fields | {
            "num_local_experts": layout.experts,
            "intermediate_size": width,
            "sliding_window": window,
        }
    fields |= {
        "num_local_experts" if family == "qwen3_moe" else "num_experts": layout.experts,
        "intermediate_size": width,  # of layers without experts, of which there are none
        "moe_intermediate_size": layout.width(width),
        "norm_topk_prob": family == "qwen3_moe",
    }
    if family == "qwen3_moe":
        return fields | {"attention_bias": bool(config.get("attention_bias"))}
    fields |= {
        "shared_expert_intermediate_size": layout.shared_width(width, family),
        "qkv_bias": any(name.endswith("q_proj.bias") for name in shape.tensors),
    }
    if window:
        kinds = ["sliding_attention"] * shape.layers
        return fields | {"use_sliding_window": True, "sliding_window": window, "layer_types": kinds}
    if config.get("use_sliding_window"):
        named = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
        return fields | {name: config[name] for name in named if config.get(name) is not None}
    return fields


def moe_shape(shape: ModelShape, layout: Layout) -> ModelShape:
    """The exact shape of the result, by the names under which it is stored."""
    family, width, hidden = TARGETS[layout.method][shape.family], shape.intermediate_size, shape.hidden_size
    prefix, names = _STORED[family]
    tensors: dict[str, tuple[int, ...]] = {}
    for name, size in shape.tensors.items():
        layer, _, part = name.partition(".mlp.")
        if not part:
            tensors[name] = size
            continue
        place = PARTS.index(part.removesuffix(".weight"))
        narrow = _sides(place, layout.width(width), hidden)
        for expert in range(layout.experts):
            tensors[f"{layer}.{prefix}.experts.{expert}.{names[place]}.weight"] = narrow
        if shared := layout.shared_width(width, family):
            tensors[f"{layer}.mlp.shared_expert.{PARTS[place]}.weight"] = _sides(place, shared, hidden)
            tensors[f"{layer}.mlp.shared_expert_gate.weight"] = (1, hidden)
        tensors[f"{layer}.{prefix}.gate.weight"] = (layout.experts, hidden)
    made = replace(shape, config=moe_config(shape, layout), tensors=tensors)
    return replace(made, bytes=made.parameters * round(shape.bytes / shape.parameters))


def _sides(place: int, width: int, hidden: int) -> tuple[int, int]:
    return (hidden, width) if PARTS[place] == "down_proj" else (width, hidden)

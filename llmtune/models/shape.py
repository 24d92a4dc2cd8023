"""The shape of a checkpoint from its headers alone: names and sizes of tensors, no weights. Imports no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact
from llmtune.models.safetensors_header import AGAIN, QUANT_STATE, StoredTensor, read_header, weight_files


@dataclass(frozen=True)
class ModelShape:
    """What a model is made of.

    config:  the parsed `config.json`
    tensors: Hugging Face name → logical shape. A tied head is counted once; a packed 4-bit weight has the shape of the
             weight it stands for, and the scales that belong to it are not listed
    bytes:   of all stored tensors, scales and packed codes included
    """

    config: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    bytes: int

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for shape in self.tensors.values())

    @property
    def text(self) -> Mapping[str, Any]:
        """The configuration of the language model; for image-and-text models, their inner text part."""
        return _text_of(self.config)

    @property
    def family(self) -> str:
        """transformers' `model_type`."""
        return str(self.config.get("model_type", "unknown"))

    @property
    def embedding(self) -> str | None:
        """Name of the token embedding's weight."""
        for end in (
            "embed_tokens.weight",
            "wte.weight",
            "word_embeddings.weight",
            "embed_in.weight",
            "embeddings.weight",
        ):
            found = next((name for name in self.tensors if name.endswith(end)), None)
            if found:
                return found
        return None

    @property
    def head(self) -> str | None:
        """Name of the output head's own weight; None when it is tied to the embedding."""
        return next((name for name in self.tensors if name.endswith(("lm_head.weight", "embed_out.weight"))), None)

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return self.head is None and self.embedding is not None

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.tensors[self.embedding][0] if self.embedding else self._number("vocab_size")

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self._number("hidden_size", "n_embd", "d_model", "emb_dim", "dim")

    @property
    def layers(self) -> int:
        """Number of decoder blocks."""
        kinds = self.text.get("layers_block_type")
        names = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "num_decoder_layers")
        return len(kinds) if kinds and _first(self.text, *names) is None else self._number(*names)

    @property
    def intermediate_size(self) -> int:
        """Width of the widest feed-forward part; 4 × hidden where the configuration leaves it out (GPT-2)."""
        value = _first(
            self.text, "intermediate_size", "n_inner", "ffn_dim", "d_ff", "mlp_hidden_size", "d_inner", "dff", "dim_ff",
            "decoder_ffn_dim", "ffn_hidden_size", "feed_forward_size",
        )  # fmt: skip
        return _largest(value) if value else 4 * self.hidden_size

    @property
    def heads(self) -> int:
        """Query heads of a layer; one, as wide as the model, where there is no attention (Mamba, RWKV)."""
        return self._named_heads or max((self._rows("q_proj.weight") or 0) // self.head_dim, 1)

    @property
    def kv_heads(self) -> int:
        """Key (and value) heads of a layer."""
        value = _first(self.text, "num_key_value_heads", "num_kv_heads", "n_head_kv")
        if value is None and self.text.get("multi_query"):
            return 1
        if value is None and (keys := self._rows("k_proj.weight")):
            value = keys // self.head_dim
        return _largest(value) if value else self.heads

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        value = _first(self.text, "head_dim", "d_kv", "d_head", "dim_head", "attention_head_size")
        if value:
            return _largest(value)
        if self._named_heads:  # not the length of q_norm: OLMo 2 has one over all heads
            return (self._rows("q_proj.weight") or self.hidden_size) // self._named_heads
        return self._rows("q_norm.weight") or self.hidden_size

    @property
    def context_length(self) -> int | None:
        """Most tokens the model was made for, as `context_of` reads it."""
        return context_of(self.config)

    @property
    def _named_heads(self) -> int | None:
        value = _first(
            self.text, "num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads",
            "decoder_attention_heads", "num_decoder_attention_heads",
        )  # fmt: skip
        return _largest(value) if value else None

    def _rows(self, end: str) -> int | None:
        return next((shape[0] for name, shape in self.tensors.items() if name.endswith(end)), None)

    def _number(self, *names: str) -> int:
        value = _first(self.text, *names)
        if value is None:
            raise BadArtifact(f"config.json of this {self.family} model has no '{names[0]}'")
        return _largest(value)


def context_of(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model was made for, by its configuration (`config.json`, or `model.config.to_dict()`); None
    where no number stands in it (Mamba)."""
    value = _first(
        _text_of(config), "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length",
        "context_length", "max_target_positions", "model_max_length",
    )  # fmt: skip
    length = _largest(value) if value else 0
    return length if length > 0 else None


def read_shape(folder: Path) -> ModelShape:
    """The shape of the checkpoint in `folder`.

    Raises BadArtifact, naming the file, when something is missing, cut short, damaged, or in a pickle format.
    """
    config = read_config(folder)
    stored: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        stored |= read_header(file)
    return ModelShape(config, logical_shapes(config, stored), sum(tensor.size for tensor in stored.values()))


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json`; raises BadArtifact when it is missing or damaged."""
    file = folder / "config.json"
    if not file.is_file():
        raise BadArtifact(
            "not a Hugging Face model: no config.json", where=str(folder), fix="give the folder that holds config.json"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadArtifact(f"config.json is damaged: {error}", where=str(file), fix=AGAIN) from error
    if not isinstance(config, dict):
        raise BadArtifact(f"config.json holds a {type(config).__name__}, not a mapping", where=str(file), fix=AGAIN)
    return config


# What quantized formats store of a weight: its codes, where they do not take its own name, and what lies beside them.
CODES = ".weight_packed"
BESIDE = (
    ".weight_scale", ".weight_zero_point", ".weight_g_idx", ".weight_shape", ".weight_global_scale", ".input_scale",
    ".input_zero_point", ".output_scale", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax",
    ".weight.nested_quant_map", ".SCB", ".weight_format",
)  # fmt: skip


def rounded_module(name: str) -> str | None:
    """The module whose rounded weight a stored tensor describes: its codes under a name of their own, or what lies
    beside them. None of a tensor with a weight's own name, which may be codes too."""
    if QUANT_STATE in name:
        return name.partition(QUANT_STATE)[0].removesuffix(".weight")
    end = next((end for end in (CODES, *BESIDE) if name.endswith(end)), None)
    return name.removesuffix(end) if end else None


def logical_shapes(config: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape of the weights that the stored tensors stand for (see `ModelShape.tensors`).

    Known: compressed-tensors (`weight_packed` with its `weight_shape`) and bitsandbytes (a `quant_state` in JSON).
    Where only names were read, not contents, a packed weight has the right number of weights but not its sides. Masks
    and frequencies that older files carry along are no weights.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in stored.items():
        if name.endswith(CODES):
            base = name.removesuffix("_packed")
            described = stored.get(base + "_shape")
            sides = described.value if described else b""
            shapes[base] = _integers(sides) if sides else _unpacked(config, tensor)
        elif QUANT_STATE in name:
            base = name.partition(QUANT_STATE)[0]
            said = tensor.value
            shapes[base] = tuple(json.loads(said)["shape"]) if said else _unpacked(config, stored[base])
        elif not name.endswith(BESIDE) and not _is_buffer(name, tensor.shape):
            shapes.setdefault(name, tensor.shape)
    if config.get("tie_word_embeddings") and any(
        name.endswith(("embed_tokens.weight", "wte.weight")) for name in shapes
    ):
        shapes.pop("lm_head.weight", None)  # some files hold the tied head a second time
    return shapes


def _is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    """Causal masks and rotary frequencies: older files hold what the model computes for itself."""
    mask = len(shape) == 4 and name.endswith((".attn.bias", ".attention.bias", ".causal_mask"))
    return mask or name.endswith((".masked_bias", "rotary_emb.inv_freq"))


def _unpacked(config: Mapping[str, Any], packed: StoredTensor) -> tuple[int, ...]:
    """(weights,) of a packed tensor, from its bytes and the bits of a weight."""
    groups = (config.get("quantization_config") or {}).get("config_groups") or {}
    bits = next((group["weights"]["num_bits"] for group in groups.values() if group.get("weights")), 4)
    return (packed.size * 8 // int(bits),)


def _integers(raw: bytes) -> tuple[int, ...]:
    """The two numbers of a `weight_shape` tensor: int64 or int32."""
    return struct.unpack("<2q" if len(raw) == 16 else "<2i", raw)


def _text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def _first(config: Mapping[str, Any], *names: str) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _largest(value: Any) -> int:
    """A number of the configuration; the largest where there is one a layer (Gemma 3n, OpenELM)."""
    return int(max(value) if isinstance(value, list) else value)

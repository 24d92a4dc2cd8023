"""Facts about model families that training and loading must know. Read from `config.json`; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# State-space, recurrent and convolutional decoders: their state runs on through a row, whatever the mask says.
RECURRENT = frozenset(
    {
        "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "mamba",
        "mamba2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_next", "recurrent_gemma",
        "rwkv", "xlstm", "zamba", "zamba2", "zaya",
    }
)  # fmt: skip
# Their attention bias (ALiBi) or position is derived from a two-dimensional padding mask, so that no mask between the
# documents of a row can be given to them, or they take no mask of ours at all.
OWN_MASK = frozenset(
    {"bloom", "mpt", "falcon", "ctrl", "openai-gpt", "xlm", "xlnet", "xglm", "reformer", "transfo-xl", "doge",
     "deepseek_v32", "deepseek_v4", "glm_moe_dsa"}
)  # fmt: skip
# Fields that only configurations with a recurrent part have, for families newer than the list above.
RECURRENT_FIELDS = (
    "state_size", "ssm_cfg", "ssm_state_size", "mamba_d_state", "mamba_d_conv", "mamba_n_heads", "conv_L_cache",
    "linear_conv_kernel_dim", "lru_width",
)  # fmt: skip
# Encoders: every token sees every other; they learn the tokens that are masked (MLM), not the next one.
ENCODERS = frozenset(
    {
        "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "esm",
        "eurobert", "megatron-bert", "mobilebert", "modernbert", "mpnet", "nomic_bert", "rembert", "roberta",
        "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
# Of these, tried with transformers 5.17: they take a mask (B, 1, T, T) and `position_ids`, so documents can be packed.
PACKED_ENCODERS = frozenset(
    {"albert", "bert", "camembert", "distilbert", "electra", "eurobert", "mpnet", "roberta", "xlm-roberta"}
)
# Their positions are counted from behind the padding token's id.
POSITIONS_BEHIND_PADDING = frozenset(
    {"camembert", "esm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"}
)
# Blocks of these families are GPT-2's Conv1D, whose weights lie transposed: inputs first.
CONV1D_FAMILIES = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
ATTENTION_LAYERS = ("full_attention", "sliding_attention", "chunked_attention", "attention")


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether this is a model for masked tokens (`AutoModelForMaskedLM`). config: a parsed `config.json`."""
    names = [str(name) for name in config.get("architectures") or ()]
    if config.get("is_decoder") or any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return False
    return config.get("model_type") in ENCODERS or any(name.endswith("ForMaskedLM") for name in names)


def encoder_problem(config: Mapping[str, Any], what: str) -> str | None:
    """Why `what` cannot be done with a model for masked tokens; None for one that writes text."""
    if not is_encoder(config):
        return None
    return f"a {config.get('model_type')} model is an encoder, and {what} is for models that write text"


def first_position(config: Mapping[str, Any]) -> int:
    """The number that `position_ids` give to the first token of a text."""
    if config.get("model_type") not in POSITIONS_BEHIND_PADDING:
        return 0
    padding = config.get("pad_token_id")
    return 2 if padding is None else int(padding) + 1


def stays_inside_documents(config: Mapping[str, Any]) -> bool:
    """Whether attention can be kept inside a document when several documents are packed into one row.

    config: a parsed `config.json`. False for state-space, recurrent and convolutional layers, for positions that do
    not follow `position_ids` (ALiBi), for attention that makes its own mask, for encoders that were not tried, and for
    remote code (nothing is known).
    """
    inner = config.get("text_config")
    if isinstance(inner, Mapping):
        return stays_inside_documents({"model_type": config.get("model_type"), **inner})
    family = str(config.get("model_type"))
    if is_encoder(config):
        return family in PACKED_ENCODERS and "auto_map" not in config
    if family in RECURRENT or (family in OWN_MASK and not _falcon_with_rotary(config)) or "auto_map" in config:
        return False
    if config.get("alibi") or any(config.get(name) is not None for name in RECURRENT_FIELDS):
        return False
    kinds = [*(config.get("layer_types") or ()), *(config.get("block_types") or ())]
    return all(kind in ATTENTION_LAYERS for kind in kinds)


def _falcon_with_rotary(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == "falcon" and not config.get("alibi")


def attention_to_use(config: Mapping[str, Any]) -> str | None:
    """The attention implementation that computes what this model was trained with; None: any will do.

    transformers' `sdpa` leaves out the soft cap of the attention logits (Gemma 2) without a word, `eager` applies it.
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    return "eager" if text.get("attn_logit_softcapping") is not None else None

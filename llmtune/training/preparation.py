"""The model as it is trained, and as it is saved: full weights, LoRA, or LoRA on 4-bit weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmtune.models.adapters import attach, load_for_qlora, merge, save_adapter
from llmtune.models.load import load_model, load_tokenizer, refuse_quantized
from llmtune.models.save import save_checkpoint
from llmtune.models.shape import read_config
from llmtune.training.chat_template import end_of_turn
from llmtune.training.checkpoint import load_weights
from llmtune.training.engine import AUTOCAST
from llmtune.training.isolation import PACKED, WEAKER, Isolation, crosses_documents, isolation_of
from llmtune.training.loss import causal_model
from llmtune.training.settings import TrainSettings
from llmtune.training.tensors import sort_metadata

FROZEN_DTYPE = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def prepared_model(
    checkpoint: Path, settings: TrainSettings, adapter_seed: int, *, device: torch.device, trust_remote_code: bool
) -> Any:
    """The model of a checkpoint folder in training mode; on CPU, but 4-bit weights are made on `device`.

    What is trained is fp32: updates smaller than a bf16 weight's last bit must not be lost. What is frozen has the
    format of the matrix products.
    """
    model = _with_adapter(checkpoint, settings, adapter_seed, device, trust_remote_code)
    causal: Any = causal_model(model)
    causal.config.use_cache = False
    if settings.gradient_checkpointing:
        causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def isolation_for(model: Any, config: Mapping[str, Any], precision: str) -> Isolation:
    """How to keep attention inside the documents of a row, tried on this very model."""
    way = isolation_of(config)
    dtype, device = AUTOCAST[precision], next(model.parameters()).device.type
    while way in PACKED:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            if not crosses_documents(causal_model(model), way):
                return way
        way = WEAKER[way]
    return way


def save_trained(
    checkpoint: Path,
    settings: TrainSettings,
    adapter_seed: int,
    weights: Mapping[str, Tensor],
    output: Path,
    *,
    conversations: bool,
    trust_remote_code: bool,
) -> None:
    """Put trained weights into the checkpoint's model, freshly loaded, and save it to `output` in bf16 (an adapter
    merged, and alone in `output/adapter`). The same whatever the devices it was trained on.

    conversations: whether it learned to end answers as the chat template does; generation then stops there."""
    model = _with_adapter(checkpoint, settings, adapter_seed, torch.device("cpu"), trust_remote_code)
    load_weights(model, weights)
    if settings.adapter is not None:
        save_adapter(model, output / "adapter", base_folder=checkpoint)
        for file in (output / "adapter").glob("*.safetensors"):
            sort_metadata(file)
        if settings.precision == "fp16":
            model = model.float()  # merged weights are rounded once, to bf16, not to fp16 before
        model = merge(model)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    if conversations:
        _stop_at_end_of_turn(model, tokenizer)
    save_checkpoint(model, tokenizer, output, dtype="bfloat16", trust_remote_code=trust_remote_code)


def _stop_at_end_of_turn(model: Any, tokenizer: Any) -> None:
    """Add the token that ends an answer to those at which generation stops. A base model's own end is often another
    one (Qwen's `<|endoftext|>` beside `<|im_end|>`): it would write the trained end, and go on."""
    ending = end_of_turn(tokenizer)
    token = tokenizer.convert_tokens_to_ids(ending) if ending else tokenizer.eos_token_id
    known = model.generation_config.eos_token_id
    ends = [end for end in (known if isinstance(known, list) else [known]) if end is not None]
    if token is not None and token not in ends:
        model.generation_config.eos_token_id = [*ends, token] if ends else token


def _with_adapter(
    checkpoint: Path, settings: TrainSettings, adapter_seed: int, device: torch.device, trust_remote_code: bool
) -> Any:
    refuse_quantized(read_config(checkpoint), checkpoint)
    if settings.adapter is None:
        return load_model(checkpoint, dtype="float32", trust_remote_code=trust_remote_code)
    frozen = FROZEN_DTYPE[settings.precision]
    if settings.adapter.type == "qlora":
        base: Any = load_for_qlora(checkpoint, frozen, device, trust_remote_code=trust_remote_code)
    else:
        base = load_model(checkpoint, dtype=frozen, trust_remote_code=trust_remote_code)
    return attach(base, settings.adapter, adapter_seed)

"""How attention is kept inside a document for a given model, and the check that it is.

| way       | what the collator does | for |
| --------- | ---------------------- | --- |
| positions | `position_ids` restart; transformers makes the block-diagonal mask, windows included | nearly all |
| mask      | the same, and a mask of ours (B, 1, T, T) | families that leave `position_ids` out of theirs |
| rows      | one document a row | families whose state runs on (state-space, recurrent, ALiBi) |
| blocks    | as `mask`, but seen in both directions | encoders |
| padded    | one document a row, and a mask (B, T) of what is not padding | encoders with windows, or not tried |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from llmtune.models.families import is_encoder, stays_inside_documents

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Isolation = Literal["positions", "mask", "rows", "blocks", "padded"]
PACKED: frozenset[Isolation] = frozenset({"positions", "mask", "blocks"})  # several documents a row
IN_BOTH_DIRECTIONS: frozenset[Isolation] = frozenset({"blocks", "padded"})
# What to do where a way was tried on a model and does not do.
WEAKER: dict[Isolation, Isolation] = {"positions": "mask", "mask": "rows", "blocks": "padded"}

# Tried with transformers 5.17, eager and sdpa: these leave `position_ids` out of their mask, so that documents behind
# each other see each other unless a mask is given.
IGNORE_POSITIONS = frozenset({"opt", "falcon", "biogpt", "gpt_oss"})


def isolation_of(config: Mapping[str, Any]) -> Isolation:
    """The way for a model with this `config.json` (parsed)."""
    if is_encoder(config):
        return "blocks" if stays_inside_documents(config) and not has_windows(config) else "padded"
    if not stays_inside_documents(config):
        return "rows"
    if config.get("model_type") in IGNORE_POSITIONS:
        return "rows" if has_windows(config) else "mask"
    return "positions"


def stricter(first: Isolation, second: Isolation) -> Isolation:
    """The way that does for two models that read the same batches; both write text."""
    ways: tuple[Isolation, ...] = ("positions", "mask", "rows")
    return max(first, second, key=ways.index)


def has_windows(config: Mapping[str, Any]) -> bool:
    """Whether some layer sees only the last tokens, so that one mask of ours cannot serve all layers."""
    kinds = config.get("layer_types") or ()
    return bool(config.get("sliding_window") or config.get("attention_chunk_size")) or any(
        kind != "full_attention" for kind in kinds
    )


def crosses_documents(model: PreTrainedModel, isolate: Isolation) -> bool:
    """Whether this very model lets a document see the one before it, tried on two rows of two random documents; also
    True for a mask of ours where the model has sliding windows, which it would undo.

    Two short forward passes, on the model's own device and with its own attention implementation (flash attention
    keeps documents apart only with one row a batch): worth running once before a packed training, because nothing
    else would show it. Call it under the autocast that training uses. The model is left in the mode it was in.
    """
    import torch

    config = model.config.get_text_config()
    if isolate in ("mask", "blocks") and has_windows(config.to_dict()):
        return True
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            first, second = (
                model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, use_cache=False).logits
                for batch in _two_batches(config.vocab_size, isolate)
            )
    finally:
        model.train(was_training)
    # Experts sum in an order that depends on the other tokens: equal but for rounding. A leak is far larger.
    rounding = 1e-5 if first.dtype == torch.float32 else 2e-2
    seen_BTV, again_BTV = first[:, _BORDER:].float(), second[:, _BORDER:].float()
    return bool((seen_BTV - again_BTV).pow(2).mean().sqrt() > rounding * seen_BTV.pow(2).mean().sqrt())


_BORDER = 9  # tokens of the first document of each row


def _two_batches(vocabulary: int, isolate: Isolation) -> list[dict[str, Tensor]]:
    """Two batches of two rows of two documents each (9 and 7 tokens), alike but for the first documents."""
    import numpy as np

    from llmtune.training.collate import Collator, Sample
    from llmtune.training.data import Row

    length = 16
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 2, length)).astype(np.int32)
    tokens[1, :, _BORDER:] = tokens[0, :, _BORDER:]
    documents = np.repeat(np.array([0, 1], np.int32), [_BORDER, length - _BORDER])
    collate = Collator(pad_id=0, isolate=isolate)
    batches = []
    for ids in tokens:
        rows = [Row(input_ids=row, documents=documents, trained=np.zeros(length, bool)) for row in ids]
        batch = collate([Sample(0, index, row) for index, row in enumerate(rows)])
        batch.pop("labels")
        batches.append(batch)
    return batches

"""How attention is kept inside a document for a given model, and the check that it is.

| way       | what the collator does | for |
| --------- | ---------------------- | --- |
| positions | `position_ids` restart; transformers makes the block-diagonal mask, windows included | nearly all |
| mask      | the same, and a mask of ours (B, 1, T, T) | families that leave `position_ids` out of their mask |
| rows      | one document a row | families whose state runs on through the row (state-space, recurrent, ALiBi) |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from llmtune.models.families import stays_inside_documents

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Isolation = Literal["positions", "mask", "rows"]

# Tried with transformers 5.17, eager and sdpa: documents behind each other see each other unless a mask is given. None
# of these has sliding windows, so one mask serves all layers.
NEEDS_MASK = frozenset({"opt", "falcon", "biogpt"})


def isolation_of(config: Mapping[str, Any]) -> Isolation:
    """The way for a model with this `config.json` (parsed). "rows" asks for `build_rows(..., pack=False)`."""
    if not stays_inside_documents(config):
        return "rows"
    return "mask" if config.get("model_type") in NEEDS_MASK else "positions"


def crosses_documents(model: PreTrainedModel, isolate: Isolation) -> bool:
    """Whether this very model lets a document see the one before it, tried on two rows of two random documents.

    Two short forward passes, on the model's own device and with its own attention implementation (flash attention
    keeps documents apart only with one row a batch): worth running once before a packed training, because nothing
    else would show it. Call it under the autocast that training uses. The model is left in the mode it was in.
    """
    import numpy as np
    import torch

    from llmtune.training.collate import Collator, Sample
    from llmtune.training.data import Row

    length, border = 16, 9
    tokens = (
        np.random.default_rng(0).integers(0, model.config.get_text_config().vocab_size, (2, length)).astype("int32")
    )
    changed = tokens.copy()
    changed[:, :border] = np.roll(tokens[:, :border], 1, axis=1)
    changed[:, 3] = (changed[:, 3] + 1) % model.config.get_text_config().vocab_size
    documents = np.repeat(np.array([0, 1], np.int32), [border, length - border])
    collate = Collator(pad_id=0, isolate=isolate)
    was_training = model.training
    model.eval()
    try:
        outputs = []
        for ids in (tokens, changed):
            rows = [Row(input_ids=row, documents=documents, trained=np.zeros(length, bool)) for row in ids]
            batch = collate([Sample(0, index, row) for index, row in enumerate(rows)])
            batch.pop("labels")
            with torch.no_grad():
                logits_BTV = model(**{k: v.to(model.device) for k, v in batch.items()}, use_cache=False).logits
            outputs.append(logits_BTV[:, border:].float())
    finally:
        model.train(was_training)
    return bool((outputs[0] - outputs[1]).abs().max() > 1e-6 * outputs[0].abs().max())

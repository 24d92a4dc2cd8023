"""How likely a model finds each of several continuations of one context, which is read once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from llmtune.evaluate.estimate import LOGITS_BYTES
from llmtune.evaluate.likelihood import Span, encode, finite, score
from llmtune.models.families import stays_inside_documents
from llmtune.monitor import Bar


@dataclass(frozen=True)
class Branches:
    """Token ids: what the continuations of a context have in common with it, and the rest of each (never empty)."""

    shared: list[int]
    ends: list[list[int]]


def branches_of(context: str, continuations: Sequence[str], tokenizer: Any, limit: int | None = None) -> Branches:
    """Context and continuation are tokenized as one text, and scored from where their tokens leave those of the context
    alone: a token across the border counts, so that nothing of a continuation is free.

    limit: tokens that the model has positions for; the context loses its beginning to keep to it
    """
    alone = encode(context, tokenizer)
    whole = [encode(context + one, tokenizer) for one in continuations]
    shortest = min(len(alone), *(len(one) - 1 for one in whole))
    border = next((i for i in range(shortest) if len({one[i] for one in (alone, *whole)}) > 1), shortest)
    if border == 0:  # nothing before it to predict it from
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        border, whole = 1, [[begin if begin is not None else 0, *one] for one in whole]
    over = max(map(len, whole)) - limit if limit else 0
    cut = min(max(over, 0), border - 1)
    return Branches(whole[0][cut:border], [one[border:][: limit - border + cut if limit else None] for one in whole])


def branch_nats(
    asked: Sequence[Branches], model: Any, bar: Bar | None = None, safe_point: Callable[[], None] | None = None
) -> list[list[float]]:
    """The summed loss in nats of each continuation given what it shares, in the order given.

    Raises BadArtifact when a loss is NaN or infinite.
    """
    if not stays_inside_documents(model.config.to_dict()):  # its state may not be of a kind that can be copied
        return _read_whole(asked, model, bar, safe_point)
    found: dict[int, list[float]] = {}
    for batch in _batches(asked, model.get_input_embeddings().num_embeddings):
        found.update(zip(batch, _read_shared([asked[i] for i in batch], model), strict=True))
        if bar:
            bar.advance(sum(tokens_of(asked[i]) for i in batch))
        if safe_point:
            safe_point()
    return [found[i] for i in range(len(asked))]


def tokens_of(branches: Branches) -> int:
    """Tokens that are read for one context."""
    return len(branches.shared) + sum(map(len, branches.ends))


def _read_whole(
    asked: Sequence[Branches], model: Any, bar: Bar | None, safe_point: Callable[[], None] | None
) -> list[list[float]]:
    spans = [Span(one.shared + end, len(one.shared), 0) for one in asked for end in one.ends]
    nats = (scored.nats for scored in score(spans, model, bar, safe_point))
    return [[next(nats) for _ in one.ends] for one in asked]


def _batches(asked: Sequence[Branches], vocabulary: int) -> Iterator[list[int]]:
    """Contexts of the same length (so they need no padding), as many as the logits of their ends have room for."""
    order = sorted(range(len(asked)), key=lambda i: (len(asked[i].shared), len(asked[i].ends), i))
    batch: list[int] = []
    for index in order:
        wider = [asked[i] for i in (*batch, index)]
        ends = [end for one in wider for end in one.ends]
        alike = len({(len(one.shared), len(one.ends)) for one in wider}) == 1
        if batch and not (alike and 4 * vocabulary * len(ends) * max(map(len, ends)) <= LOGITS_BYTES):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _read_shared(asked: Sequence[Branches], model: Any) -> list[list[float]]:
    """Two passes: the contexts (N, P), whose keys and values are then copied for their C ends each, (N × C, S)."""
    choices, ends = len(asked[0].ends), [end for one in asked for end in one.ends]
    shared_NP = torch.tensor([one.shared for one in asked], device=model.device)
    start = model(input_ids=shared_NP, use_cache=True, logits_to_keep=1)
    first_MV = start.logits[:, -1].float().log_softmax(-1).neg().repeat_interleave(choices, 0)
    length = max(map(len, ends))
    ids_MS = torch.zeros((len(ends), length), dtype=torch.long)  # what stands behind an end changes nothing before it
    scored_MS = torch.zeros((len(ends), length), dtype=torch.bool)
    for place, end in enumerate(ends):
        ids_MS[place, : len(end)] = torch.tensor(end)
        scored_MS[place, : len(end)] = True
    ids_MS = ids_MS.to(model.device)
    losses_MS = first_MV.gather(1, ids_MS[:, :1])
    if length > 1:
        cache = start.past_key_values
        cache.batch_repeat_interleave(choices)
        logits_MSV = model(input_ids=ids_MS[:, :-1], past_key_values=cache, use_cache=True).logits.float()
        rest = F.cross_entropy(logits_MSV.flatten(0, 1), ids_MS[:, 1:].flatten(), reduction="none")
        losses_MS = torch.cat([losses_MS, rest.reshape(len(ends), -1)], 1)
    losses_MS = losses_MS.cpu().double().where(scored_MS, torch.zeros((), dtype=torch.double))
    nats = iter(finite(losses_MS.sum(1).tolist()))
    return [[next(nats) for _ in range(choices)] for _ in asked]

"""Token losses without the (B, T, V) logits: equal to those from `model(...).logits`, in a fraction of the memory.

The base decoder gives hidden states; only the positions that are trained go through the output head, a chunk at a time.
A chunk runs the model's own `forward` with its decoder replaced by a stub that hands out the chunk, so that the head,
soft-capping and logit scaling are precisely the family's, whatever the family. While a chunk's logits are in memory its
gradient is computed too (Hsu et al. 2024, "Liger Kernel"), so that nothing is computed twice.

    hidden_NH, targets_N = trained_positions(model, batch)
    loss_sum = chunked_loss(model, hidden_NH, cross_entropy_of(targets_N))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmtune.training.collate import NOT_TRAINED
from llmtune.training.settings import CHUNK_BYTES


class ChunkLoss(Protocol):
    """The loss, summed, of some consecutive positions of all N. `logits_nV` (n, V) in the model's dtype; `positions`
    is their slice of 0 … N. Must be differentiable in `logits_nV` alone."""

    def __call__(self, logits_nV: Tensor, positions: slice, /) -> Tensor: ...


def causal_model(model: nn.Module) -> nn.Module:
    """The transformers model with its head inside an adapter (peft) or other wrapper."""
    get_base_model = getattr(model, "get_base_model", None)
    inner: nn.Module = get_base_model() if callable(get_base_model) else model
    return inner


def decoder_of(causal: nn.Module) -> nn.Module:
    """The base decoder: all of the model but its head."""
    decoder = getattr(causal, str(getattr(causal, "base_model_prefix", "")), None)
    if not isinstance(decoder, nn.Module) or decoder is causal:
        raise TypeError(f"{type(causal).__name__} has no base decoder to take hidden states from")
    return decoder


def hidden_states(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The decoder's last hidden states (B, T, H) of a collated batch, documents kept apart by `position_ids`."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    outputs = decoder_of(causal_model(model))(**inputs, use_cache=False)
    hidden_BTH: Tensor = outputs[0]
    return hidden_BTH


def trained_positions(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states (N, H) at the N positions of the batch whose next token is a target, and those targets (N,)."""
    hidden_BTH = hidden_states(model, batch)
    targets_BT = batch["labels"][:, 1:]
    trained_BT = targets_BT != NOT_TRAINED
    return hidden_BTH[:, :-1][trained_BT], targets_BT[trained_BT]


def masked_token_loss(model: nn.Module, batch: Mapping[str, Tensor], chunk: int | None = None) -> Tensor:
    """Cross entropy in nats at the positions with a label (labels (B, T), -100 left out), summed; scalar fp32. Of an
    encoder: the output at a position is compared with the label there."""
    labels_BT = batch["labels"]
    learned_BT = labels_BT != NOT_TRAINED
    hidden_NH = hidden_states(model, batch)[learned_BT]
    return chunked_loss(model, hidden_NH, cross_entropy_of(labels_BT[learned_BT]), chunk)


def next_token_loss(model: nn.Module, batch: Mapping[str, Tensor], chunk: int | None = None) -> Tensor:
    """Cross entropy in nats, summed over the targets (labels (B, T), unshifted, -100 left out); scalar fp32."""
    hidden_NH, targets_N = trained_positions(model, batch)
    return chunked_loss(model, hidden_NH, cross_entropy_of(targets_N), chunk)


def cross_entropy_of(targets_N: Tensor) -> ChunkLoss:
    """The chunk loss that is cross entropy in fp32 with these targets (N,)."""

    def loss(logits_nV: Tensor, positions: slice) -> Tensor:
        total: Tensor = _CrossEntropy.apply(logits_nV, targets_N[positions])
        return total

    return loss


def chunked_loss(model: nn.Module, hidden_NH: Tensor, loss: ChunkLoss, chunk: int | None = None) -> Tensor:
    """Sum of `loss` over the logits of N hidden states, computed `chunk` positions at a time; scalar fp32.

    chunk: positions; None: as many as fit CHUNK_BYTES
    The gradient reaches `hidden_NH` and every trainable parameter of the head (a tied embedding included).
    """
    causal = causal_model(model)
    pieces = _pieces(causal, hidden_NH, chunk or chunk_positions(causal, hidden_NH.device))
    parameters = _head_parameters(causal)
    if not torch.is_grad_enabled() or not (hidden_NH.requires_grad or parameters):
        with torch.no_grad():
            total = hidden_NH.new_zeros((), dtype=torch.float32)
            for positions in pieces:
                total += loss(head_logits(causal, hidden_NH[positions]), positions)
            return total
    result: Tensor = _ChunkedLoss.apply(causal, loss, pieces, hidden_NH, *parameters)
    return result


@torch.no_grad()
def token_losses(model: nn.Module, batch: Mapping[str, Tensor], chunk: int | None = None) -> Tensor:
    """Cross entropy in nats of every token but the first given those before it: (B, T) batch → (B, T-1) fp32, no grad.

    batch: `input_ids` (B, T), and where there are `attention_mask` and `position_ids`. Every position is computed;
    leave out what is padding or the first of a document by your own mask.
    """
    causal = causal_model(model)
    hidden_BTH = hidden_states(model, batch)[:, :-1]
    targets_N = batch["input_ids"][:, 1:].reshape(-1)
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])
    chunk = chunk or chunk_positions(causal, hidden_NH.device)
    losses_N = torch.empty(len(hidden_NH), device=hidden_NH.device)
    for part in _slices(len(hidden_NH), chunk):
        # Into a place made before: a small result kept where the logits were would keep the next ones out of it.
        losses_N[part] = F.cross_entropy(
            head_logits(causal, hidden_NH[part]).float(), targets_N[part], reduction="none"
        )
    return losses_N.reshape(hidden_BTH.shape[:2])


def head_logits(causal: nn.Module, hidden_NH: Tensor) -> Tensor:
    """Logits (N, V) of hidden states (N, H) by the model's own forward: head, biases, scaling and soft-capping."""
    with _decoder_replaced(causal, hidden_NH[None]):
        # not __call__: hooks on the whole model (partitioning, offloading) belong to whole passes
        logits_1NV: Tensor = causal.forward(inputs_embeds=hidden_NH[None], use_cache=False).logits
    return logits_1NV.squeeze(0)  # indexing would fill and add a whole gradient of zeros


def chunk_positions(causal: nn.Module, device: torch.device) -> int:
    """How many positions' logits fit CHUNK_BYTES in fp32, at least 16."""
    config: Any = causal.config
    vocabulary = getattr(config, "vocab_size", None) or config.get_text_config().vocab_size
    return max(16, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // (4 * vocabulary))


class _ChunkedLoss(torch.autograd.Function):
    """Loss and gradients of all chunks in the forward pass; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, causal: nn.Module, loss: ChunkLoss, pieces: list[slice], hidden_NH: Tensor, *parameters: Tensor
    ) -> Tensor:
        total = hidden_NH.new_zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden_NH)
        of_parameters: list[Tensor] = []
        for positions in pieces:
            piece_nH = hidden_NH[positions].detach().requires_grad_()
            with torch.enable_grad():
                piece_loss = loss(head_logits(causal, piece_nH), positions)
            of_piece, *parts = torch.autograd.grad(piece_loss, (piece_nH, *parameters))
            total += piece_loss.detach()
            of_hidden[positions] = of_piece
            if of_parameters:
                for sum_, part in zip(of_parameters, parts, strict=True):
                    sum_ += part
            else:
                of_parameters = list(parts)
        ctx.gradients = (of_hidden, *of_parameters)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (scale,) = gradients
        scaled = tuple(gradient.mul_(scale) for gradient in ctx.gradients)
        del ctx.gradients
        return (None, None, None, *scaled)


class _CrossEntropy(torch.autograd.Function):
    """Cross entropy in fp32, summed; its gradient (softmax - one-hot) takes the place of the probabilities.

    By hand, in place: torch's log_softmax takes three times as long on a CPU, and another copy of the logits."""

    @staticmethod
    def forward(ctx: Any, logits_nV: Tensor, targets_n: Tensor) -> Tensor:
        picked_n1 = targets_n[:, None]
        # A copy also of fp32 logits: soft-capping has kept them for its own backward pass.
        shifted_nV = logits_nV.to(torch.float32, copy=True).sub_(logits_nV.amax(-1, keepdim=True))
        picked_logits_n1 = shifted_nV.gather(1, picked_n1)
        exponentials_nV = shifted_nV.exp_()
        sums_n1 = exponentials_nV.sum(-1, keepdim=True)
        loss = (sums_n1.log() - picked_logits_n1).sum()
        if ctx.needs_input_grad[0]:
            gradient_nV = exponentials_nV.div_(sums_n1)
            gradient_nV.scatter_add_(1, picked_n1, gradient_nV.new_full(picked_n1.shape, -1.0))
            ctx.gradient = gradient_nV.to(logits_nV.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (scale,) = gradients
        gradient_nV = ctx.gradient.mul_(scale)
        del ctx.gradient
        return gradient_nV, None


class _DecoderOutput:
    """What a decoder returns, as far as heads look at it: hidden states; everything else is None."""

    def __init__(self, hidden_BTH: Tensor) -> None:
        self.last_hidden_state = hidden_BTH

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]


class _StubDecoder(nn.Module):
    """Stands in for a decoder: called, it hands out the hidden states; asked for a part, it gives the decoder's."""

    def __init__(self, decoder: nn.Module, hidden_BTH: Tensor) -> None:
        super().__init__()
        self.__dict__["_decoder"] = decoder  # not a submodule: its parameters are not ours
        self.__dict__["_output"] = _DecoderOutput(hidden_BTH)

    def forward(self, *_: Any, **__: Any) -> _DecoderOutput:
        output: _DecoderOutput = self.__dict__["_output"]
        return output

    def __getattr__(self, name: str) -> Any:
        part = getattr(self.__dict__["_decoder"], name)
        return self if name == "decoder" else part  # OPT-like models call model.decoder


@contextmanager
def _decoder_replaced(causal: nn.Module, hidden_BTH: Tensor) -> Iterator[None]:
    name, decoder = str(causal.base_model_prefix), decoder_of(causal)
    modules: dict[str, Any] = causal._modules
    modules[name] = _StubDecoder(decoder, hidden_BTH)
    try:
        yield
    finally:
        modules[name] = decoder


def _pieces(causal: nn.Module, hidden_NH: Tensor, chunk: int) -> list[slice]:
    """The chunks, at least one: a rank without targets runs the head on nothing, so that its gradients exist. Where the
    head's weights are spread over ranks (ZeRO-3) each call gathers them, so all ranks must call equally often."""
    pieces = list(_slices(len(hidden_NH), chunk)) or [slice(0, 0)]
    if any(hasattr(parameter, "ds_id") for parameter in causal.parameters()):
        most = torch.tensor(len(pieces), device=hidden_NH.device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        pieces += [slice(len(hidden_NH), len(hidden_NH))] * (int(most) - len(pieces))
    return pieces


def _head_parameters(causal: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters that the head reads, each once."""
    decoder = decoder_of(causal)
    heads: list[nn.Module] = [child for child in causal.children() if child is not decoder]
    get_output: Callable[[], nn.Module | None] = getattr(causal, "get_output_embeddings", lambda: None)
    output = get_output()
    if output is not None:
        heads.append(output)
    own = list(causal.parameters(recurse=False))
    found = {id(p): p for p in (*own, *(p for head in heads for p in head.parameters())) if p.requires_grad}
    return list(found.values())


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))

"""The chunked loss against transformers' own logits, for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from llmtune.training.loss import causal_model, head_logits, hidden_states, next_token_loss, token_losses
from tests.tiny import FAMILIES, tiny_model


def two_documents(rows: int = 3, length: int = 24, vocabulary: int = 320) -> dict[str, torch.Tensor]:
    """A batch of rows with two documents each; some positions are not trained."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, vocabulary, (rows, length), generator=draw)
    positions = torch.cat([torch.arange(10), torch.arange(length - 10)]).expand(rows, -1)
    labels = ids.clone()
    labels[positions == 0] = -100
    labels[torch.rand(ids.shape, generator=draw) < 0.2] = -100
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def reference(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    return F.cross_entropy(
        logits[:, :-1].float().reshape(-1, logits.shape[-1]), batch["labels"][:, 1:].reshape(-1), reduction="sum"
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_equal_to_the_loss_of_the_models_logits(family: str) -> None:
    model, batch = tiny_model(family), two_documents()
    names, parameters = zip(*((n, p) for n, p in model.named_parameters()), strict=True)
    expected = reference(model, batch)
    expected_gradients = torch.autograd.grad(expected, parameters)
    loss = next_token_loss(model, batch, chunk=7)
    gradients = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for name, mine, theirs in zip(names, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()), msg=name)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_token_losses_are_those_of_the_models_logits(family: str) -> None:
    model, batch = tiny_model(family), two_documents()
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    expected = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
    found = token_losses(model, batch, chunk=5)
    assert found.shape == (3, 23)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_nothing_of_a_chunk_is_kept_beside_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small result kept where the logits were keeps the next ones out of there: a worker grew by 0.7 GB."""
    import weakref

    kept: list[weakref.ref[torch.Tensor]] = []
    cross_entropy = F.cross_entropy

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        assert not [result for result in kept if result() is not None]
        result = cross_entropy(*arguments, **options)
        kept.append(weakref.ref(result))
        return result

    monkeypatch.setattr(F, "cross_entropy", watched)
    token_losses(tiny_model(), two_documents(), chunk=5)
    assert len(kept) == 14


def test_frozen_head_gives_only_the_gradient_of_hidden_states() -> None:
    model, batch = tiny_model("qwen3"), two_documents()
    model.lm_head.weight.requires_grad_(False)
    weight = model.model.layers[0].mlp.up_proj.weight
    (expected,) = torch.autograd.grad(reference(model, batch), weight)
    next_token_loss(model, batch, chunk=4).backward()
    assert model.lm_head.weight.grad is None
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_adapter_on_the_head_is_trained() -> None:
    from peft import LoraConfig, get_peft_model

    model, batch = tiny_model("qwen3"), two_documents()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["lm_head", "q_proj"], init_lora_weights=False))
    trainable = [p for p in adapted.parameters() if p.requires_grad]
    expected = torch.autograd.grad(reference(causal_model(adapted), batch), trainable)
    found = torch.autograd.grad(next_token_loss(adapted, batch, chunk=6), trainable)
    assert len(trainable) == 2 * 2 + 2
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_agrees_with_the_models_own_logits() -> None:
    model, batch = tiny_model("gemma2"), two_documents()
    parameters = list(model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        expected = reference(model, batch)
        loss = next_token_loss(model, batch, chunk=16)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-2)
    for mine, theirs in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() <= 0.02 * theirs.norm() + 1e-6


def test_gradient_of_a_scaled_loss_and_of_a_batch_without_targets() -> None:
    model, batch = tiny_model("llama"), two_documents()
    weight = model.model.embed_tokens.weight
    (once,) = torch.autograd.grad(next_token_loss(model, batch), weight)
    (halved,) = torch.autograd.grad(next_token_loss(model, batch) * 0.5, weight)
    torch.testing.assert_close(halved * 2, once)
    nothing = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    loss = next_token_loss(model, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert weight.grad is not None
    assert not weight.grad.any()


def test_whole_logits_never_stand_in_memory() -> None:
    model, batch = tiny_model("gpt2"), two_documents(rows=4)
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-2]))
    next_token_loss(model, batch, chunk=9).backward()
    trained = int((batch["labels"][:, 1:] != -100).sum())
    assert max(seen) == 9
    assert sum(seen) == trained


def test_the_decoder_is_back_after_an_error() -> None:
    model = tiny_model("llama")
    decoder = model.model
    with pytest.raises(RuntimeError):
        head_logits(model, torch.zeros(3, 7))
    assert model.model is decoder
    assert hidden_states(model, two_documents()).shape == (3, 24, 64)

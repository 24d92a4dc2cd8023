"""Losses of the routers, by hand and beside transformers' own; what hooks hear; experts beside transformers' own."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional as F

from llmtune.errors import CannotRunHere
from llmtune.extras import have
from llmtune.models.adapters import AdapterSettings, adapter_parameters
from llmtune.models.load import load_model
from llmtune.models.moe.convert import convert
from llmtune.models.moe.target import Layout
from llmtune.models.shape import read_shape
from llmtune.section import read_section
from llmtune.training.experts import sorted_by_expert, use_trained_experts
from llmtune.training.objective import NextToken
from llmtune.training.preparation import prepared_model
from llmtune.training.router_losses import RouterLosses, counted, router_terms, routers_of, with_router_losses
from llmtune.training.router_plan import router_problem
from llmtune.training.settings import RouterSettings, TrainSettings
from tests.tiny import tiny_checkpoint
from tests.training.small_run import history_of, small_corpus, small_train
from tests.training.test_zero import SETTINGS, curve, on_ranks

ROWS = [row[None] for row in torch.randint(5, 320, (4, 48), generator=torch.Generator().manual_seed(3))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model/`, a split llama with 6 experts of which 2 are active, made of `dense/`; `corpus/`."""
    place = tmp_path_factory.mktemp("moe")
    tiny_checkpoint(place / "dense", "llama")
    convert(place / "dense", place / "model", Layout("split", 6, 2, 2), seed=1, rows=ROWS, work=place / "split")
    small_corpus(place / "corpus")
    return place


@pytest.fixture
def mixture(place: Path) -> Any:
    return load_model(place / "model", dtype="float32").train()


def batch_of(rows: int = 2, length: int = 12) -> dict[str, torch.Tensor]:
    tokens = torch.randint(5, 320, (rows, length), generator=torch.Generator().manual_seed(5))
    return {"input_ids": tokens, "labels": tokens.clone(), "position_ids": torch.arange(length).expand(rows, -1)}


def test_terms_by_hand() -> None:
    """Three tokens, of which two count; two experts, one for each token."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0], [0.0, 99.0]])
    balance, z, share = router_terms(logits, torch.tensor([True, True, False]), 1)
    assert share.tolist() == [1, 0]
    assert balance.item() == pytest.approx(2 * (1 * 0.75 + 0 * 0.25))
    assert z.item() == pytest.approx(math.log(4) ** 2)
    even, _, share = router_terms(torch.tensor([[2.0, -2.0], [-2.0, 2.0]]), torch.ones(2), 1)
    assert (even.item(), share.tolist()) == (pytest.approx(1), [0.5, 0.5])
    nothing = router_terms(logits, torch.zeros(3, dtype=torch.bool), 1)
    assert [term.sum().item() for term in nothing] == [0, 0, 0]


@pytest.mark.parametrize("active", [1, 2, 3])
def test_balance_is_that_of_transformers(active: int) -> None:
    """Theirs counts every choice as a whole token, and so is `active` times ours; padding is left out in both."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(active))
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, 6:] = 0
    theirs = load_balancing_loss_func((logits,), 5, active, attention_mask=mask)
    ours, _, _ = router_terms(logits, mask.flatten(), active)
    torch.testing.assert_close(ours * active, theirs)


def test_tokens_behind_the_last_target_do_not_count() -> None:
    labels = torch.tensor([[-100, 5, -100, 7, -100, -100], [-100] * 6, [1, 2, 3, 4, 5, 6]])
    counts = counted({"labels": labels})
    assert counts.long().tolist() == [[1, 1, 1, 0, 0, 0], [0] * 6, [1, 1, 1, 1, 1, 0]]


def test_losses_are_added_times_the_weight(mixture: Any) -> None:
    """Loss of a batch, and its gradient by the first router, worked out from the logits that transformers records."""
    batch = batch_of()
    outcome = RouterLosses(NextToken(), mixture, balance=0.5, z=0.25)(mixture, batch)
    found = mixture.model(batch["input_ids"], output_router_logits=True, use_cache=False).router_logits
    kept = torch.arange(24).reshape(2, 12)[:, :-1].flatten()  # all but the last of each row
    terms = [router_terms(logits[kept], torch.ones(len(kept)), 2) for logits in found]
    balance, z = (torch.stack([term[place] for term in terms]).mean() for place in (0, 1))
    plain = NextToken()(mixture, batch)
    expected = plain.loss + 22 * (0.5 * balance + 0.25 * z)
    torch.testing.assert_close(outcome.loss, expected)
    assert outcome.metrics["objective"].item() == pytest.approx(plain.loss.item())
    assert (outcome.metrics["balance"] / 22).item() == pytest.approx(balance.item())
    share = max(F.one_hot(logits[kept].topk(2).indices, 6).sum((0, 1)).max().item() / 44 for logits in found)
    assert (outcome.metrics["expert_share"] / 22).item() == pytest.approx(share)
    weight = routers_of(mixture)[0].weight
    ours, theirs = (torch.autograd.grad(loss, weight)[0] for loss in (outcome.loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_evaluation_is_the_objective_alone(mixture: Any) -> None:
    with_losses = RouterLosses(NextToken(), mixture, balance=5.0, z=5.0)
    mixture.eval()
    with torch.no_grad():
        assert with_losses(mixture, batch_of()).loss == NextToken()(mixture, batch_of()).loss


def test_recomputation_is_not_heard_twice(place: Path) -> None:
    """Under gradient checkpointing each router runs again in the backward pass; loss and gradients stay the same."""
    found = {}
    for again in (False, True):
        settings = TrainSettings(gradient_checkpointing=again, precision="fp32")
        model = prepared_model(place / "model", settings, 1, device=torch.device("cpu"), trust_remote_code=False)
        objective = with_router_losses(NextToken(), model, settings, model.config.to_dict())
        calls: list[int] = []
        routers_of(model)[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        losses = [objective(model, batch_of()).loss for _ in range(2)]
        losses[0].backward()
        found[again] = (losses[0].item(), losses[1].item(), routers_of(model)[0].weight.grad)
        assert len(calls) == (3 if again else 2)
    assert found[True][:2] == pytest.approx(found[False][:2])
    torch.testing.assert_close(found[True][2], found[False][2])


def test_micro_batches_are_weighed_by_their_targets(place: Path) -> None:
    """The step's loss is the sum over micro-batches of (objective + weight × routers' losses), over all targets."""
    small_train(place, "router", tokens=600)
    for record in history_of(place, "router"):
        if "loss" in record:
            assert record["loss"] == pytest.approx(record["objective"] + 0.01 * record["balance"] + 0.001 * record["z"])
            assert 1 / 6 < record["expert_share"] <= 0.5
            assert 0.9 < record["balance"] < 3
    section = read_section(place / "router" / "output")
    assert section is not None
    (chart,) = section.charts
    assert list(chart.series.values())[1] == [r["expert_share"] for r in history_of(place, "router") if "loss" in r]
    name = "model.layers.0.mlp.gate.weight"
    trained, start = (load_model(place / f).state_dict()[name] for f in ("router/output", "model"))
    assert not torch.allclose(trained.float(), start, atol=1e-3)


def test_coefficients_are_read(place: Path) -> None:
    small_train(place, "read", tokens=400, router={"balance": 0.5, "z": 0.25})
    record = next(record for record in history_of(place, "read") if "loss" in record)
    added = 0.5 * record["balance"] + 0.25 * record["z"]
    assert record["loss"] - record["objective"] == pytest.approx(added, rel=1e-4)


def test_router_without_routers_is_an_error(place: Path) -> None:
    settings = TrainSettings(router=RouterSettings())
    dense, mixture = ({"model_type": "llama"}, {"model_type": "qwen2_moe", "num_experts": 4, "num_experts_per_tok": 1})
    assert "this llama model is dense" in (router_problem(settings, dense) or "")
    assert router_problem(settings, mixture) is None
    assert router_problem(TrainSettings(), dense) is None
    with_adapter = TrainSettings(router=RouterSettings(), adapter=AdapterSettings())
    assert "an adapter leaves routers" in (router_problem(with_adapter, mixture) or "")
    assert "of another kind" in (router_problem(settings, mixture | {"model_type": "gpt_oss"}) or "")
    place_of_dense = place / "of-dense"
    place_of_dense.mkdir()
    (place_of_dense / "model").symlink_to(place / "dense")
    (place_of_dense / "corpus").symlink_to(place / "corpus")
    with pytest.raises(CannotRunHere, match="this llama model is dense"):
        small_train(place_of_dense, "refused", router={"z": 0.1})


def test_adapters_leave_experts_and_routers_alone(place: Path) -> None:
    settings = TrainSettings(adapter=AdapterSettings(rank=4), precision="fp32")
    model = prepared_model(place / "model", settings, 1, device=torch.device("cpu"), trust_remote_code=False)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == adapter_parameters(AdapterSettings(rank=4), read_shape(place / "model"))
    assert any("shared_expert.up_proj" in name for name in trained)
    assert not any(".experts." in name or ".gate." in name for name in trained)
    metrics = small_train(place, "lora", tokens=400, adapter={"rank": 4})
    assert metrics["trainable_parameters"] == sum(trained.values())
    assert not any("balance" in record for record in history_of(place, "lora"))
    before, after = (load_model(place / f, dtype="float32").state_dict() for f in ("model", "lora/output"))
    name = "model.layers.0.mlp.experts.down_proj"
    torch.testing.assert_close(after[name], before[name], rtol=1 / 128, atol=0)  # but for the rounding to bf16


def gradients(model: Any, autocast: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outcome = NextToken()(model, batch_of(3, 40))
    outcome.loss.backward()
    return outcome.loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_experts_compute_what_those_of_transformers_do(mixture: Any) -> None:
    """Loss and every gradient, in fp32 and under autocast, also where an expert gets no token."""
    with torch.no_grad():
        mixture.model.layers[0].mlp.gate.weight[3] = -mixture.model.layers[0].mlp.gate.weight[0]
        mixture.model.layers[1].mlp.gate.weight[1:] = 0  # ties: the first ones are always chosen
    ours = copy.deepcopy(mixture)
    mixture.set_experts_implementation("eager")
    assert use_trained_experts(ours)
    for autocast, tolerance in ((False, 1e-4), (True, 0.2)):  # theirs in bf16 are 0.1 from their own in fp32
        (loss, found), (expected, theirs) = gradients(ours, autocast), gradients(mixture, autocast)
        torch.testing.assert_close(loss, expected, rtol=tolerance / 10, atol=0)
        for name, gradient in theirs.items():
            assert found[name].dtype == gradient.dtype
            assert (found[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-6, name
    idle = ours.model.layers[1].mlp.experts.down_proj.grad.abs().amax((1, 2)) == 0
    assert 1 <= idle.sum() <= 4


def test_experts_with_a_gate_of_their_own(mixture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families whose experts clamp, as DeepSeek-V4's, say so by `_apply_gate`."""

    def clamped(experts: Any, projected: torch.Tensor) -> torch.Tensor:
        gate, up = projected.chunk(2, dim=-1)
        return experts.act_fn(gate.clamp(max=0.02)) * up.clamp(-0.02, 0.02)  # type: ignore[no-any-return]

    plain, _ = gradients(mixture, False)
    monkeypatch.setattr(type(mixture.model.layers[0].mlp.experts), "_apply_gate", clamped)
    ours = copy.deepcopy(mixture)
    mixture.set_experts_implementation("batched_mm")
    assert use_trained_experts(ours)
    (loss, found), (expected, theirs) = gradients(ours, False), gradients(mixture, False)
    torch.testing.assert_close(loss, expected)
    assert loss != plain
    for name, gradient in theirs.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name


@given(st.integers(1, 300), st.integers(1, 3), st.integers(3, 6), st.integers(0, 9))
@at_most(max_examples=40, deadline=None)
def test_rows_of_experts(tokens: int, active: int, experts: int, seed: int) -> None:
    """Each pair has a row of its own among those of its expert; what fills up repeats the expert's last pair."""
    likes = torch.rand(tokens, experts, generator=torch.Generator().manual_seed(seed)) * torch.arange(experts).sqrt()
    chosen = likes.topk(active).indices  # the first expert gets nothing, but where all are chosen
    rows = sorted_by_expert(chosen, experts)
    expert_of_row = torch.repeat_interleave(torch.arange(experts), torch.tensor(rows.counts))
    assert torch.equal(rows.pair_R[rows.row_NK].flatten(), torch.arange(tokens * active))
    assert torch.equal(expert_of_row[rows.row_NK], chosen)
    assert torch.equal(expert_of_row, chosen.flatten()[rows.pair_R])
    assert torch.equal(rows.real_R1[:, 0].nonzero()[:, 0], rows.row_NK.flatten().sort().values)
    share = tokens * active / experts
    block = math.gcd(*rows.counts)
    assert block >= share / 32
    filled = [count - int((chosen == expert).sum()) for expert, count in enumerate(rows.counts)]
    assert all(0 <= more < max(1, share / 16) for more in filled)


def test_dense_models_have_no_experts_to_compute(place: Path, tmp_path: Path) -> None:
    assert not use_trained_experts(load_model(place / "dense"))
    model = load_model(place / "model")
    assert use_trained_experts(model)
    model.save_pretrained(tmp_path)
    assert "llmtune" not in (tmp_path / "config.json").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not have("deepspeed"), reason="needs the extra deepspeed")
@pytest.mark.parametrize("config", ["zero2-cpu", "zero3-cpu"])
def test_two_ranks_train_all_experts_as_one_does(place: Path, config: str) -> None:
    """Without coefficients, since the routers' losses are of a micro-batch; the metrics are theirs all the same."""
    settings = {**SETTINGS, "router": {"balance": 0, "z": 0}}
    if not (place / "alone").exists():
        on_ranks(place, "alone", None, settings)
    on_ranks(place, config, config, settings)
    assert curve(place, config) == pytest.approx(curve(place, "alone"), abs=5e-4)
    ours, theirs = (load_file(place / name / "output" / "model.safetensors") for name in (config, "alone"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].float(), value.float(), rtol=1 / 64, atol=2e-3)
    assert all(0.9 < record["balance"] < 3 for record in history_of(place, config) if "loss" in record)

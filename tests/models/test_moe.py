"""Dense checkpoints as mixtures of experts: the same function, the promised shape, read by transformers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmtune.errors import LlmtuneError, NotFinite, Stopped
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.moe.compensate import RIDGE
from llmtune.models.moe.convert import Converted, convert
from llmtune.models.moe.grouping import group, group_by_chance
from llmtune.models.moe.target import Layout, active_parameters, active_width, conversion_problem, experts_of, moe_shape
from llmtune.models.shape import read_shape
from llmtune.monitor import Monitor
from tests.tiny import tiny_checkpoint

ROWS = [row[None] for row in torch.randint(5, 320, (6, 48), generator=torch.Generator().manual_seed(3))]
PROBE = torch.randint(5, 320, (2, 40), generator=torch.Generator().manual_seed(4))
UPCYCLE, SPLIT = Layout("upcycle", experts=4, active=2), Layout("split", experts=6, active=2, shared=2)
LOGITS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
probe = torch.randint(5, 320, (2, 40), generator=torch.Generator().manual_seed(4))
found = []
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        logits = model(probe, use_cache=False).logits
    found.append((type(model).__name__, logits, AutoTokenizer.from_pretrained(folder).chat_template))
torch.save(found, sys.argv[1])
assert not any(name.startswith("llmtune") for name in sys.modules)
"""

Convert = Callable[..., tuple[Path, Converted]]


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    """converted(source, layout, …) → the folder of the result, and what came of it."""

    def make(source: Path, layout: Layout, name: str = "made", **options: Any) -> tuple[Path, Converted]:
        rows = ROWS if layout.method == "split" else ()
        options = {"seed": 7, "rows": rows, "work": tmp_path / f"{name}-work"} | options
        return tmp_path / name, convert(source, tmp_path / name, layout, **options)

    return make


def logits_of(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(folder)(PROBE, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_upcycled_logits_are_the_dense_ones(family: str, checkpoint: Callable[..., Path], converted: Convert) -> None:
    made, _ = converted(checkpoint(family), UPCYCLE)
    torch.testing.assert_close(logits_of(made), logits_of(checkpoint(family)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_upcycled_routers_send_tokens_to_different_experts(
    family: str, checkpoint: Callable[..., Path], converted: Convert
) -> None:
    made, _ = converted(checkpoint(family), UPCYCLE)
    chosen = chosen_experts(load_model(made))
    assert len(chosen.unique(dim=0)) > 2


def chosen_experts(model: Any) -> torch.Tensor:
    found: list[torch.Tensor] = []
    router = model.model.layers[0].mlp.gate
    router.register_forward_hook(lambda *call: found.append(call[2][2]))
    with torch.no_grad():
        model(PROBE, use_cache=False)
    return torch.cat(found)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_split_with_all_experts_active_is_the_dense_model(
    family: str, checkpoint: Callable[..., Path], converted: Convert
) -> None:
    made, _ = converted(checkpoint(family), Layout("split", experts=6, active=6, shared=2))
    torch.testing.assert_close(logits_of(made), logits_of(checkpoint(family)), rtol=0, atol=1e-4)


def test_split_puts_each_neuron_in_one_place(checkpoint: Callable[..., Path], converted: Convert) -> None:
    made, _ = converted(checkpoint("llama"), SPLIT)
    dense, mixture = load_model(checkpoint("llama")).model.layers[1].mlp, load_model(made).model.layers[1].mlp
    gates = torch.cat([mixture.shared_expert.gate_proj.weight, *mixture.experts.gate_up_proj[:, :16]])
    assert gates.shape == dense.gate_proj.weight.shape
    assert sorted(map(tuple, gates.tolist())) == sorted(map(tuple, dense.gate_proj.weight.tolist()))


@torch.no_grad()
def test_split_computes_what_its_chosen_neurons_do(checkpoint: Callable[..., Path], converted: Convert) -> None:
    """One feed-forward part worked out from the dense weights: neurons of experts that were not chosen set to zero, and
    the output fitted to the dense one's on the text, by numpy."""
    made, told = converted(checkpoint("llama"), SPLIT)
    dense_model = load_model(checkpoint("llama"))
    dense, mixture = dense_model.model.layers[0].mlp, load_model(made).model.layers[0].mlp
    seen: list[torch.Tensor] = []
    dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    for row in ROWS:
        dense_model(row)
    text = torch.cat(seen)
    mean_weight = mixture.gate(text)[1].mean()
    where = {tuple(row): place for place, row in enumerate(dense.gate_proj.weight.tolist())}

    def left_and_whole(x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """What is left of the neurons' activations, and the dense part's outputs."""
        _, weights, chosen = mixture.gate(x)
        hidden = dense.act_fn(dense.gate_proj(x)) * dense.up_proj(x)
        scale = torch.zeros_like(hidden)
        scale[:, [where[tuple(row)] for row in mixture.shared_expert.gate_proj.weight.tolist()]] = 1
        for expert in range(6):
            mine = [where[tuple(row)] for row in mixture.experts.gate_up_proj[expert, :16].tolist()]
            scale[:, mine] = torch.where(chosen == expert, weights, 0).sum(1, keepdim=True) / mean_weight
        return (hidden * scale).double().numpy(), dense(x).double().numpy()

    left, whole = left_and_whole(text)
    own = dense.down_proj.weight.double().numpy()
    drawn = np.sqrt(RIDGE * (left**2).sum(0))
    equations = np.concatenate([left, np.diag(drawn)])
    fitted, *_ = np.linalg.lstsq(equations, np.concatenate([whole, drawn[:, None] * own.T]))
    x = torch.randn(30, 64, generator=torch.Generator().manual_seed(1))
    expected = torch.from_numpy(left_and_whole(x)[0] @ fitted).float()
    torch.testing.assert_close(mixture(x[None])[0], expected, rtol=1e-3, atol=1e-5)

    def missing(weights: np.ndarray) -> float:
        return float(((whole - left @ weights) ** 2).sum() / (whole**2).sum())

    assert told.error[0] == pytest.approx(missing(fitted), rel=1e-3)
    assert missing(fitted) < 0.8 * missing(own.T)


@pytest.mark.slow
def test_read_by_transformers_alone_in_another_process(
    checkpoint: Callable[..., Path], converted: Convert, fresh: Callable[..., str], tmp_path: Path
) -> None:
    cases = [("llama", UPCYCLE), ("qwen2", UPCYCLE), ("llama", SPLIT)]
    folders = [converted(checkpoint(family), layout, f"{family}-{layout.method}")[0] for family, layout in cases]
    fresh(LOGITS, tmp_path / "logits.pt", *folders)
    found = torch.load(tmp_path / "logits.pt")
    assert [name for name, _, _ in found] == ["MixtralForCausalLM", "Qwen2MoeForCausalLM", "Qwen2MoeForCausalLM"]
    for (family, _), folder, (_, logits, template) in zip(cases, folders, found, strict=True):
        torch.testing.assert_close(logits, logits_of(folder), rtol=0, atol=1e-5)
        assert template == load_tokenizer(checkpoint(family)).chat_template


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "layout"),
    [("llama", UPCYCLE), ("mistral", UPCYCLE), ("qwen2", UPCYCLE), ("qwen3", UPCYCLE), ("llama", SPLIT),
     ("mistral", SPLIT), ("qwen2", SPLIT)],
)  # fmt: skip
def test_shape_is_forecast_exactly(family: str, layout: Layout, dtype: str, converted: Convert, tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", family, dtype=dtype, layers=1)
    made, result = converted(source, layout)
    forecast, real = moe_shape(read_shape(source), layout), read_shape(made)
    assert (forecast.tensors, forecast.bytes) == (real.tensors, real.bytes)
    assert real.parameters == result.metrics["parameters"] == load_model(made).num_parameters()
    assert {name: real.config.get(name) for name in forecast.config} == forecast.config
    assert experts_of(real.config) == experts_of(forecast.config) == (layout.experts, layout.active)
    assert real.config["dtype"] == dtype


def test_active_parameters_by_hand(checkpoint: Callable[..., Path], converted: Convert) -> None:
    made, result = converted(checkpoint("llama"), SPLIT)
    dense, shape = read_shape(checkpoint("llama")), read_shape(made)
    feed_forward, routers = 3 * 64 * 128, 6 * 64 + 64
    assert shape.parameters == dense.parameters + 2 * routers
    assert active_parameters(shape) == dense.parameters + 2 * routers - 2 * feed_forward // 2
    assert result.metrics["active_parameters"] == active_parameters(shape)
    assert active_parameters(dense) == dense.parameters
    assert (active_width(dense), active_width(shape)) == (128, 64)
    assert active_width(moe_shape(dense, UPCYCLE)) == 2 * 128
    assert experts_of(dense.config) is None
    assert experts_of(shape.config) == (6, 2)


def test_windows_go_along(converted: Convert, tmp_path: Path) -> None:
    """Mistral's sliding windows (24 of 40 tokens) decide its logits, and those of the split model."""
    source = tiny_checkpoint(tmp_path / "source", "mistral", sliding_window=8)
    for layout in (UPCYCLE, Layout("split", experts=3, active=3, shared=1)):
        made, _ = converted(source, layout, name=layout.method)
        torch.testing.assert_close(logits_of(made), logits_of(source), rtol=0, atol=1e-4)
    whole = load_model(source, sliding_window=None)
    with torch.no_grad():
        assert not torch.allclose(whole(PROBE, use_cache=False).logits, logits_of(source), atol=1e-2)


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


class StopAfter(Monitor):
    def __init__(self, points: int) -> None:
        self.points = points

    def safe_point(self) -> None:
        self.points -= 1
        if self.points < 0:
            raise Stopped()


def test_stopped_split_goes_on_to_the_same_bytes(checkpoint: Callable[..., Path], converted: Convert) -> None:
    whole, _ = converted(checkpoint("llama"), SPLIT, name="whole")
    again, _ = converted(checkpoint("llama"), SPLIT, name="again")
    assert digest(whole) == digest(again)
    with pytest.raises(Stopped):
        converted(checkpoint("llama"), SPLIT, name="stopped", monitor=StopAfter(1 + len(ROWS)))
    kept = list((whole.parent / "stopped-work").iterdir())
    assert [path.name for path in kept] == ["layer-000.safetensors"]
    written = kept[0].stat().st_mtime_ns
    resumed, result = converted(checkpoint("llama"), SPLIT, name="stopped")
    assert digest(whole) == digest(resumed)
    assert kept[0].stat().st_mtime_ns == written
    assert [sum(load) for load in result.load] == pytest.approx([1, 1])


def test_a_broken_layer_is_named(converted: Convert, tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "broken")
    model = load_model(source)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = float("nan")
    model.save_pretrained(source)
    with pytest.raises(NotFinite, match=r"model\.layers\.1\.mlp"):
        converted(source, SPLIT)


def test_seed_draws_upcycled_routers_alone(checkpoint: Callable[..., Path], converted: Convert) -> None:
    one, other = (load_model(converted(checkpoint("llama"), UPCYCLE, f"s{n}", seed=n)[0]) for n in (1, 2))
    changed = {name for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])}
    assert changed == {f"model.layers.{layer}.mlp.gate.weight" for layer in (0, 1)}
    alike = [converted(checkpoint("llama"), SPLIT, f"t{n}", seed=n)[0] for n in (1, 2)]
    assert digest(alike[0]) == digest(alike[1])


def test_grouping_finds_planted_groups() -> None:
    """Eight neurons are active for every token; of the others, four groups of eight each by an input of its own."""
    generator = torch.Generator().manual_seed(0)
    kind_N = torch.randint(4, (400,), generator=generator)
    inputs_NH = torch.nn.functional.one_hot(kind_N, 4).float() + 0.01 * torch.randn(400, 4, generator=generator)
    order = torch.randperm(40, generator=generator)
    activity_NI = 0.05 * torch.rand(400, 40, generator=generator)
    activity_NI[:, order[:8]] += 3
    for planted in range(4):
        mine = order[8 + 8 * planted :][:8]
        activity_NI[:, mine] += (kind_N == planted)[:, None] * (1 + torch.rand(400, 8, generator=generator))
    found = group(inputs_NH, activity_NI, experts=4, active=1, shared=1)
    assert set(found.shared_S.tolist()) == set(order[:8].tolist())
    planted_sets = {frozenset(order[8 + 8 * planted :][:8].tolist()) for planted in range(4)}
    assert {frozenset(neurons) for neurons in found.experts_EW.tolist()} == planted_sets
    chosen_N = (inputs_NH @ found.router_EH.T).argmax(1)
    served = torch.stack([activity_NI[token, found.experts_EW[chosen]] for token, chosen in enumerate(chosen_N)])
    assert (served.mean(1) > 1).float().mean() > 0.99  # the router sends each token to the group that is active for it
    by_chance = group_by_chance(inputs_NH, activity_NI, 4, 1, 1, seed=3)
    assert sorted([*by_chance.shared_S.tolist(), *by_chance.experts_EW.flatten().tolist()]) == list(range(40))
    assert {frozenset(neurons) for neurons in by_chance.experts_EW.tolist()} != planted_sets


def test_what_cannot_be_converted_is_told(checkpoint: Callable[..., Path], converted: Convert, tmp_path: Path) -> None:
    def problem(family: str, layout: Layout) -> str:
        return conversion_problem(read_shape(checkpoint(family)), layout) or ""

    for family in ("gpt2", "gemma2", "cohere", "granite"):
        assert f"models of type {family} cannot be converted by split; those of type llama, mistral" in problem(
            family, SPLIT
        )
    assert "those of type llama, mistral, qwen2 can" in problem("qwen3", SPLIT)
    told = problem("llama", Layout("split", experts=5, active=2, shared=2))
    assert "5 experts and a shared one 2 times as wide do not divide" in told
    assert "128 neurons; make experts + shared one of 2, 4, 8, 16, 32, 64" in told
    made, _ = converted(checkpoint("llama"), SPLIT)
    assert "is a mixture of experts already" in (conversion_problem(read_shape(made), UPCYCLE) or "")
    with pytest.raises(LlmtuneError, match="mixture of experts already"):
        converted(made, UPCYCLE, name="again")
    biased = tiny_checkpoint(tmp_path / "biased", "llama", attention_bias=True)
    assert "k_proj.bias has no place" in (conversion_problem(read_shape(biased), UPCYCLE) or "")
    assert "o_proj.bias has no place" in (conversion_problem(read_shape(biased), SPLIT) or "")

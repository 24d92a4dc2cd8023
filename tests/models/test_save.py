from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from llmtune.errors import BadArtifact, NotFinite
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.save import save_checkpoint
from llmtune.models.shape import read_shape
from tests.tiny import CHAT_TEMPLATE, FAMILIES, tiny_model, tiny_tokenizer

IDS = torch.arange(5, 45)[None]
# What a user has: transformers, and nothing of ours. Prints one line of facts a folder, saves its logits beside it.
PLAIN_READER = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
assert not any(name.startswith("llmtune") for name in sys.modules)
for folder in map(Path, sys.argv[1:]):
    eager = {"attn_implementation": "eager"} if folder.name == "gemma2" else {}
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **eager)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        torch.save(model(torch.arange(5, 45)[None]).logits, f"{folder}.logits")
    print(json.dumps({
        "folder": folder.name,
        "missing": sorted(report["missing_keys"]), "unexpected": sorted(report["unexpected_keys"]),
        "dtype": str(model.dtype), "template": tokenizer.chat_template, "cache": model.generation_config.use_cache,
        "tokens": tokenizer("Raise 12 errors")["input_ids"],
        "tied": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
    }))
"""


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS.to(model.device)).logits.cpu()


@pytest.fixture(scope="module")
def saved(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder of everything saved here and read by one fresh process, and what that process said, by name."""
    folder = tmp_path_factory.mktemp("saved")
    for family in FAMILIES:
        model = load_model(checkpoint(family))
        model.config.use_cache = False  # as training leaves it
        before = {name: value.clone() for name, value in model.state_dict().items()}
        save_checkpoint(model, load_tokenizer(checkpoint(family)), folder / family)
        assert model.dtype == torch.float32
        assert model.config.use_cache is False
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, model in special_models().items():
        tied = model.config.tie_word_embeddings
        save_checkpoint(model, tiny_tokenizer(), folder / name, dtype="float32")
        assert model.config.tie_word_embeddings is tied  # the model given is as it was
    names = [*FAMILIES, *special_models()]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_READER, *(folder / name for name in names)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [fact["folder"] for fact in facts] == names
    return folder, {fact["folder"]: fact for fact in facts}


def special_models() -> dict[str, Any]:
    """Heads that are easily lost: of a resized vocabulary, and one trained away from the embedding it was tied to."""
    found = {"resized-tied": tiny_model("llama"), "resized-own": tiny_model("qwen3"), "separated": tiny_model("llama")}
    for name in ("resized-tied", "resized-own"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found[name].resize_token_embeddings(352, mean_resizing=False)
    head = found["separated"].lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().clone() + 0.5)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_back_in_a_fresh_process(
    family: str, saved: tuple[Path, dict[str, Any]], checkpoint: Callable[..., Path]
) -> None:
    folder, facts = saved[0] / family, saved[1][family]
    assert facts["missing"] == facts["unexpected"] == []
    assert facts["dtype"] == "torch.bfloat16"
    assert facts["template"] == CHAT_TEMPLATE
    assert facts["cache"] is True
    assert facts["tied"] is (family not in ("mistral", "qwen3"))
    assert facts["tokens"] == load_tokenizer(checkpoint(family))("Raise 12 errors")["input_ids"]
    expected = logits(load_model(checkpoint(family), "bfloat16"))
    torch.testing.assert_close(torch.load(f"{folder}.logits"), expected, rtol=0, atol=1e-6)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert read_shape(folder).tensors == read_shape(checkpoint(family)).tensors


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tied"), [("resized-tied", True), ("resized-own", False), ("separated", False)])
def test_heads_are_not_lost(name: str, tied: bool, saved: tuple[Path, dict[str, Any]]) -> None:
    facts = saved[1][name]
    assert facts["missing"] == facts["unexpected"] == []
    assert facts["tied"] is tied
    read = torch.load(saved[0] / f"{name}.logits")
    torch.testing.assert_close(read, logits(special_models()[name]), rtol=0, atol=1e-6)


def test_gathered_weights_with_two_copies_of_a_tied_head_are_written_once(tmp_path: Path) -> None:
    """What ranks gather (ZeRO-3) does not share memory any more."""
    model = tiny_model("llama")
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    assert "lm_head.weight" in gathered
    save_checkpoint(model, None, tmp_path, dtype="float32", state_dict=gathered)
    assert set(load_file(tmp_path / "model.safetensors")) == set(read_shape(tmp_path).tensors)
    assert read_shape(tmp_path).tied
    assert torch.equal(logits(load_model(tmp_path)), logits(model))


def test_spread_weights_are_refused(tmp_path: Path) -> None:
    weights = {name: torch.empty(0) for name in tiny_model("llama").state_dict()}
    with pytest.raises(BadArtifact, match="empty"):
        save_checkpoint(tiny_model("llama"), None, tmp_path, state_dict=weights)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "bfloat16"), (1e5, "float16")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float, dtype: str) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = value
    with pytest.raises(NotFinite, match=r"layers\.1\.mlp\.up_proj"):
        save_checkpoint(model, None, tmp_path, dtype=dtype)


def test_a_vocabulary_that_the_configuration_does_not_know(tmp_path: Path) -> None:
    model = tiny_model("qwen3")
    model.config.vocab_size = 300
    with pytest.raises(BadArtifact, match="320 rows"):
        save_checkpoint(model, None, tmp_path)


def test_generation_settings_that_transformers_would_refuse_to_save(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.generation_config.temperature = 0.7
    save_checkpoint(model, None, tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert (saved["temperature"], saved["do_sample"]) == (0.7, True)
    assert saved["eos_token_id"] == 3


def test_a_tokenizer_that_reads_back_differently_is_refused(tmp_path: Path) -> None:
    """AutoTokenizer rebuilds the pre-tokenizer of a qwen2 folder, whatever its tokenizer.json says."""
    with pytest.raises(BadArtifact, match="splits text in another way"):
        save_checkpoint(tiny_model("qwen2"), tiny_tokenizer(splitting="gpt2"), tmp_path)


def test_same_model_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_checkpoint(tiny_model("gemma2"), tiny_tokenizer(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    assert not any(str(tmp_path) in (tmp_path / "one" / name).read_text("latin1") for name in files)


def test_a_quantized_model_keeps_its_codes(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    from llmtune.models.adapters import load_for_qlora

    model = load_for_qlora(checkpoint("llama"))
    save_checkpoint(model, tiny_tokenizer(), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.get_tensor("model.layers.0.mlp.up_proj.weight").dtype == torch.uint8
    again = load_model(tmp_path)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0.05)


def test_a_tokenizer_with_code_is_checked_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted: list[bool] = []

    def load(folder: Path, *, trust_remote_code: bool) -> Any:
        trusted.append(trust_remote_code)
        return load_tokenizer(folder)

    monkeypatch.setattr("llmtune.models.save.load_tokenizer", load)
    for trust in (True, False):
        save_checkpoint(tiny_model("llama"), tiny_tokenizer(), tmp_path, trust_remote_code=trust)
    assert trusted == [True, False]

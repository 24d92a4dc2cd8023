from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmtune.errors import BadArtifact, CannotRunHere, MissingExtra
from llmtune.models.load import load_model, load_tokenizer, refuse_quantized
from tests.tiny import FAMILIES, tiny_model

IDS = torch.randint(5, 320, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model_that_was_saved(family: str, checkpoint: Callable[..., Path]) -> None:
    model = load_model(checkpoint(family))
    assert not model.training
    attention = "eager" if family == "gemma2" else "sdpa"
    original = AutoModelForCausalLM.from_config(model.config, attn_implementation=attention, dtype=torch.float32)
    original.load_state_dict(tiny_model(family).state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, original.eval()(IDS).logits, rtol=0, atol=1e-6)


def test_gemma_2_keeps_its_soft_cap(checkpoint: Callable[..., Path]) -> None:
    """transformers' sdpa drops the cap on attention logits: about a sixth of the spread of the logits here."""
    with torch.no_grad():
        right = AutoModelForCausalLM.from_pretrained(checkpoint("gemma2"), attn_implementation="eager")(IDS).logits
        wrong = AutoModelForCausalLM.from_pretrained(checkpoint("gemma2"), attn_implementation="sdpa")(IDS).logits
        ours = load_model(checkpoint("gemma2"))(IDS).logits
    assert (right - wrong).abs().max() > 0.05
    torch.testing.assert_close(ours, right, rtol=0, atol=1e-6)


def test_number_format_is_the_one_asked_for(checkpoint: Callable[..., Path]) -> None:
    assert load_model(checkpoint("llama")).dtype == torch.float32
    assert load_model(checkpoint("llama"), "bfloat16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype is one of"):
        load_model(checkpoint("llama"), "bf16")


def test_missing_tensors_are_not_made_up(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadArtifact, match=r"layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_a_truncated_file_is_found_before_loading(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadArtifact, match=r"model\.safetensors.*truncated"):
        load_model(folder)


def test_sizes_that_disagree_with_the_configuration(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(BadArtifact):
        load_model(folder)


def test_code_of_the_model_is_not_run(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    trap = tmp_path / "was-run"
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    with pytest.raises(CannotRunHere, match="trust_remote_code"):
        load_model(folder)
    assert not trap.exists()


def test_code_of_a_tokenizer_runs_only_when_trusted(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    # transformers copies the code there to import it
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "modules")])
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "own-tokenizer")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | own))
    code = folder / "tokenization_own.py"
    code.write_text(
        "from transformers import PreTrainedTokenizerFast\n\n\nclass OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    with pytest.raises(CannotRunHere, match=r"a tokenizer brings Python code of its own[\s\S]*--trust-remote-code"):
        load_tokenizer(folder)
    assert type(load_tokenizer(folder, trust_remote_code=True)).__name__ == "OwnTokenizer"
    code.unlink()
    with pytest.raises(BadArtifact, match=r"this tokenizer needs Python code .*: tokenization_own\.py"):
        load_tokenizer(folder, trust_remote_code=True)


def test_an_unknown_family_is_named(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "yeti"}))
    with pytest.raises(CannotRunHere, match="yeti"):
        load_model(folder)


def test_a_missing_extra_is_named(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    method = {"quantization_config": {"quant_method": "compressed-tensors"}}
    (folder / "config.json").write_text(json.dumps(config | method))
    monkeypatch.setattr("llmtune.extras.have", lambda module: module != "compressed_tensors")
    with pytest.raises(MissingExtra, match=r"llmtune\[quantize\]"):
        load_model(folder)


def test_encoders_load_by_their_own_auto_class(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(IDS).logits, model(IDS).logits)


def test_tokenizers(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(checkpoint("llama"))
    assert (
        tokenizer("Raise 12")["input_ids"]
        == AutoTokenizer.from_pretrained(checkpoint("llama"))("Raise 12")["input_ids"]
    )
    assert "<|im_start|>" in tokenizer.chat_template
    with pytest.raises(BadArtifact, match="no tokenizer"):
        load_tokenizer(tmp_path)
    shutil.copytree(checkpoint("llama"), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(BadArtifact):
        load_tokenizer(tmp_path / "model")


def test_weights_of_more_layers_than_the_configuration_has(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(BadArtifact, match=r"no place in the model.*\n?.*model\.layers\.1\."):
        load_model(folder)


def test_buffers_and_parts_of_other_models_may_stay_unread(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    weights["vision_tower.layers.0.mlp.up_proj.weight"] = torch.ones(4, 4)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_model(folder)
    weights["model.layers.0.mlp.up_proj.bias"] = torch.ones(128)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadArtifact, match=r"mlp\.up_proj\.bias"):
        load_model(folder)


@pytest.mark.parametrize(
    ("quantization", "trained", "loaded"),
    [
        (None, True, True),
        ({"quant_method": "compressed-tensors"}, True, None),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, False, None),
        ({"load_in_4bit": True}, False, None),
        ({"quant_method": "gptq"}, False, False),
    ],
)
def test_what_quantized_checkpoints_are_good_for(
    quantization: dict[str, object] | None,
    trained: bool,
    loaded: bool | None,
    checkpoint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    if trained:
        refuse_quantized(config, folder)
    else:
        with pytest.raises(CannotRunHere, match="not trained"):
            refuse_quantized(config, folder)
    if loaded is False:
        with pytest.raises(CannotRunHere, match="quantized with gptq, which is not read here"):
            load_model(folder)

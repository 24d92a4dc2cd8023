from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmtune.errors import BadArtifact
from llmtune.models.safetensors_header import StoredTensor, tensor_files
from llmtune.models.shape import ModelShape, context_of, logical_shapes, read_shape, rounded_module
from tests.tiny import FAMILIES, tiny_checkpoint, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_agrees_with_the_model_itself(family: str, checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(family)
    model = tiny_model(family)
    shape = read_shape(folder)
    own = dict(model.named_parameters())  # PyTorch counts a tied weight once
    assert shape.parameters == sum(value.numel() for value in own.values())
    assert {tuple(value.shape) for value in own.values()} == set(shape.tensors.values())
    assert shape.bytes == 4 * shape.parameters
    config = model.config
    assert shape.family == family
    assert (shape.layers, shape.vocab_size, shape.context_length) == (2, 320, 256)
    assert shape.hidden_size == config.hidden_size == 64
    assert shape.heads == config.num_attention_heads
    assert shape.kv_heads == getattr(config, "num_key_value_heads", config.num_attention_heads)
    assert shape.head_dim == getattr(config, "head_dim", 16)
    assert shape.intermediate_size == (256 if family == "gpt2" else 128)
    assert shape.tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)


def test_finding_a_shape_loads_no_torch(checkpoint: Callable[..., Path], fresh: Callable[..., str]) -> None:
    code = """
import sys
from llmtune.models.find import find_shape, identity
from llmtune.models.reference import ModelReference
import llmtune.stages.model, llmtune.models.adapters, llmtune.models.families
reference = ModelReference.parse(sys.argv[1])
find_shape(reference), identity(reference)
print([name for name in ("torch", "transformers", "peft", "numpy") if name in sys.modules])
"""
    assert fresh(code, checkpoint("llama")).strip() == "[]"


def test_a_tied_head_that_is_stored_twice_counts_once(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "twice")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert read_shape(folder).tensors == read_shape(checkpoint("llama")).tensors
    assert read_shape(folder).tied


@pytest.mark.parametrize("cut", [0, 5, 300, -1000, -1])
def test_truncated_weights_are_named(checkpoint: Callable[..., Path], tmp_path: Path, cut: int) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "cut")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:cut])
    with pytest.raises(BadArtifact, match=r"model\.safetensors") as caught:
        read_shape(folder)
    assert caught.value.fix


def test_damaged_headers_are_named(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "damaged")
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[20] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(BadArtifact, match="header"):
        read_shape(folder)
    file.write_bytes(bytes(data[:8]) + b"x" * (len(data) - 8))
    with pytest.raises(BadArtifact, match="header"):
        read_shape(folder)


def test_shards_missing_from_the_folder_are_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "whole")
    tiny_model("llama").save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert read_shape(tmp_path / "sharded").tensors == read_shape(folder).tensors
    shards[1].unlink()
    with pytest.raises(BadArtifact, match=shards[1].name):
        read_shape(tmp_path / "sharded")


def test_pickles_are_refused(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(checkpoint("llama") / "config.json", tmp_path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadArtifact, match=r"pytorch_model\.bin.*refused"):
        read_shape(tmp_path)


def test_bad_configurations_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"no config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(BadArtifact, match=r"config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BadArtifact, match="list"):
        read_shape(tmp_path)


def test_packed_weights_count_as_what_they_stand_for(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """bitsandbytes NF4 and compressed-tensors' packing, against the unquantized model's own count."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    whole = read_shape(checkpoint("qwen3"))
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(checkpoint("qwen3"), quantization_config=nf4, device_map="cpu")
    model.save_pretrained(tmp_path / "nf4")
    packed = read_shape(tmp_path / "nf4")
    assert packed.tensors == whole.tensors
    assert packed.bytes < whole.bytes / 2

    weights = load_file(checkpoint("qwen3") / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    rows, columns = weights.pop(name).shape
    weights[name + "_packed"] = torch.zeros(rows, columns // 8, dtype=torch.int32)
    weights[name + "_scale"] = torch.zeros(rows, columns // 32)
    weights[name + "_shape"] = torch.tensor([rows, columns])
    (tmp_path / "ct").mkdir()
    save_file(weights, tmp_path / "ct" / "model.safetensors")
    shutil.copy(checkpoint("qwen3") / "config.json", tmp_path / "ct")
    assert read_shape(tmp_path / "ct").tensors == whole.tensors


def test_image_and_text_models_show_their_language_model(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("gemma3_text"), tmp_path / "nested")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    assert (read_shape(folder).layers, read_shape(folder).head_dim) == (2, 32)


def test_derived_numbers_are_there_for_every_family_of_transformers() -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    # Their default configurations hold no language model; what is inside of them names its own sizes.
    wrappers = {"blt", "gemma4_assistant", "gemma4_unified_assistant", "musicgen", "musicgen_melody"}
    numbers = ("vocab_size", "hidden_size", "layers", "intermediate_size", "heads", "kv_heads", "head_dim")
    by_another_name = {"mpt": 2048, "whisper": 448}  # transformers itself calls them max_seq_len, max_target_positions
    without_length = set()
    for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if family in wrappers:
            continue
        config = CONFIG_MAPPING[family]()
        shape = ModelShape(json.loads(config.to_json_string(use_diff=False)), {}, 0)
        for name in numbers:
            assert getattr(shape, name) > 0, (family, name)
        if shape.context_length is None:
            without_length.add(family)
        said = getattr(config.get_text_config(), "max_position_embeddings", None) or 0
        expected = said if said > 0 else by_another_name.get(family)  # XLNet says -1: no limit
        assert context_of(config.to_dict()) == shape.context_length == expected, family
    assert {"mamba", "mamba2", "falcon_mamba", "bloom", "xlnet"} <= without_length
    assert not {"llama", "gpt2", "gpt_neo", "xglm", "rwkv", "gemma3n", "olmo2"} & without_length


@pytest.mark.parametrize(
    ("config", "tensors", "expected"),
    [
        (  # OLMo 2: one norm over all heads
            {"hidden_size": 64, "num_attention_heads": 4},
            {"self_attn.q_norm.weight": (64,), "self_attn.q_proj.weight": (64, 64)},
            (4, 16, 256),
        ),
        ({"hidden_size": 64, "num_heads": 8}, {}, (8, 8, 256)),  # GPT-Neo
        ({"d_model": 64, "attention_heads": 4, "ffn_dim": 96}, {}, (4, 16, 96)),  # XGLM
        ({"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": [96, 128]}, {}, (4, 16, 128)),  # Gemma 3n
        ({"hidden_size": 64, "intermediate_size": 128}, {}, (1, 64, 128)),  # Mamba
    ],
)
def test_names_of_other_families(
    config: dict[str, Any], tensors: dict[str, tuple[int, ...]], expected: tuple[int, int, int]
) -> None:
    shape = ModelShape(config, tensors, 0)
    assert (shape.heads, shape.head_dim, shape.intermediate_size) == expected


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 256, "seq_length": 64}, 256),
        ({"max_position_embeddings": None, "seq_length": 64}, 64),  # BLOOM
        ({"max_position_embeddings": -1}, None),
        ({"text_config": {"max_position_embeddings": 64}, "max_position_embeddings": 256}, 64),
        ({}, None),
    ],
)
def test_the_longest_context_of_a_configuration(config: dict[str, Any], length: int | None) -> None:
    assert context_of(config) == ModelShape(config, {}, 0).context_length == length


def test_masks_and_frequencies_are_no_weights() -> None:
    stored = {
        name: StoredTensor(shape, 4)
        for name, shape in {
            "h.0.attn.bias": (1, 1, 8, 8),
            "h.0.attn.masked_bias": (),
            "model.layers.0.self_attn.rotary_emb.inv_freq": (8,),
            "h.0.attn.c_attn.bias": (12,),
            "mpt.attn.bias": (12,),
        }.items()
    }
    assert set(logical_shapes({}, stored)) == {"h.0.attn.c_attn.bias", "mpt.attn.bias"}


def test_packed_weights_whose_contents_were_not_read() -> None:
    """As from the hub, where only the headers are asked for."""
    ct = {"config_groups": {"group_0": {"weights": {"num_bits": 8}}}}
    packed = {"a.weight_packed": StoredTensor((4, 4), 64), "a.weight_shape": StoredTensor((2,), 16)}
    assert logical_shapes({"quantization_config": ct}, packed) == {"a.weight": (64,)}
    nf4 = {"a.weight": StoredTensor((32, 1), 32), "a.weight.quant_state.bitsandbytes__nf4": StoredTensor((90,), 90)}
    assert logical_shapes({"quantization_config": {"load_in_4bit": True}}, nf4) == {"a.weight": (64,)}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.0.mlp.up_proj.weight", None),
        ("model.layers.0.mlp.up_proj.bias", None),
        ("a.b.weight_packed", "a.b"),
        ("a.b.weight_scale", "a.b"),
        ("a.b.weight_zero_point", "a.b"),
        ("a.b.weight_shape", "a.b"),
        ("a.b.SCB", "a.b"),
        ("a.b.weight_format", "a.b"),
        ("a.b.weight.absmax", "a.b"),
        ("a.b.weight.nested_quant_map", "a.b"),
        ("a.b.weight.quant_state.bitsandbytes__nf4", "a.b"),
    ],
)
def test_the_module_that_a_tensor_of_a_quantized_format_belongs_to(name: str, module: str | None) -> None:
    assert rounded_module(name) == module


def test_every_tensor_is_found_in_its_file(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path, max_shard_size="100KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert tensor_files(tmp_path) == {name: tmp_path / file for name, file in index.items()}


def test_the_single_file_is_preferred_and_a_damaged_index_named(
    checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "both")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": 1}}))
    assert read_shape(folder).tensors == read_shape(checkpoint("llama")).tensors  # as transformers reads it
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadArtifact, match="index of the weights is damaged"):
        read_shape(folder)

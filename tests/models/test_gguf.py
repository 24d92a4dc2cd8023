from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmtune.errors import BadArtifact, CannotRunHere, MissingExtra
from llmtune.files import content_fingerprint
from llmtune.models.find import find_shape, identity, licence, resolve
from llmtune.models.gguf_header import read_gguf_header
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.reference import ModelReference
from llmtune.models.shape import read_shape
from tests.tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer

gguf = pytest.importorskip("gguf")
IDS = torch.arange(5, 45)[None]
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring pairs where transformers turns halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_llama(file: Path, pre: str = "gpt-2", **metadata: Any) -> Path:
    """A tiny Llama as GGUF (F32), written by hand after the format's description."""
    model, backend = tiny_model("llama"), json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("Tiny")
    writer.add_license("cc-by-4.0")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(320)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = sorted(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    special = {token["content"] for token in backend["added_tokens"]}
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_eos_token_id(3)
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in metadata.items():
        getattr(writer, key)(value)
    for name, value in model.state_dict().items():
        weight = value.float().numpy()
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, number, part = stem.split(".", 3)
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = interleave(weight, 4 if "q_proj" in part else 2)
            writer.add_tensor(f"blk.{number}.{NAMES[part]}.weight", np.ascontiguousarray(weight))
        elif stem != "lm_head":
            writer.add_tensor(
                {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}[stem] + ".weight", weight
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_the_folder_made_is_the_model_in_the_file(tmp_path: Path) -> None:
    reference = ModelReference.parse(str(write_llama(tmp_path / "tiny.gguf")))
    folder = resolve(reference)
    assert folder.is_relative_to(os.environ["LLMTUNE_CACHE"])
    model = load_model(folder)
    with torch.no_grad():
        expected = tiny_model("llama", dtype="bfloat16")(IDS).logits
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-6)
    assert model.dtype == torch.bfloat16
    assert model.config.rms_norm_eps == 1e-6  # not the 32-bit float nearest to it
    assert (model.generation_config.eos_token_id, model.config.pad_token_id) == (3, 1)
    foreseen, made = find_shape(reference), read_shape(folder)
    assert (foreseen.tensors, foreseen.bytes, foreseen.tied) == (made.tensors, made.bytes, made.tied)
    for name in (
        "family",
        "layers",
        "hidden_size",
        "intermediate_size",
        "heads",
        "kv_heads",
        "head_dim",
        "context_length",
    ):
        assert getattr(foreseen, name) == getattr(made, name), name
    assert licence(reference) == licence(folder) == "cc-by-4.0"
    assert resolve(reference) == folder


def test_the_tokenizer_is_the_one_in_the_file(tmp_path: Path) -> None:
    """transformers' own converter loses the pre-tokenizer, and takes a wrong token for the end."""
    original = tiny_tokenizer()
    text = "<|im_start|>user\nRaise 12 errors\n\n\t naïve 日本<|im_end|>"
    tokenizer = load_tokenizer(resolve(ModelReference.parse(str(write_llama(tmp_path / "tiny.gguf")))))
    assert tokenizer(text)["input_ids"] == original(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 3, 1)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.model_max_length == 256


def test_the_same_file_makes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = ModelReference.parse(str(write_llama(tmp_path / "tiny.gguf")))
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("LLMTUNE_CACHE", str(tmp_path / name))
        made.append(resolve(reference))
    assert made[0] != made[1]
    assert content_fingerprint([made[0]]) == content_fingerprint([made[1]])
    assert not any(str(tmp_path) in path.read_text("latin1") for path in made[0].iterdir())


def test_ways_of_splitting(tmp_path: Path) -> None:
    digits = write_llama(tmp_path / "digits.gguf", "smollm", add_add_bos_token=True)
    tokenizer = load_tokenizer(resolve(ModelReference.parse(str(digits))))
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("x 12")
    assert [piece for piece, _ in pieces] == ["x", "Ġ", "1", "2"]
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    threes = load_tokenizer(resolve(ModelReference.parse(str(write_llama(tmp_path / "threes.gguf", "llama-bpe")))))
    pieces = threes.backend_tokenizer.pre_tokenizer.pre_tokenize_str("x 1234")
    assert [piece for piece, _ in pieces] == ["x", "Ġ", "123", "4"]
    with pytest.raises(CannotRunHere, match="'martian'"):
        resolve(ModelReference.parse(str(write_llama(tmp_path / "unknown.gguf", "martian"))))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    data = write_llama(tmp_path / "whole.gguf").read_bytes()
    for name, cut in {"tail": data[:-64], "header": data[:3000], "empty": b"", "other": b"GGML" + data[4:]}.items():
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(cut)
        with pytest.raises(BadArtifact, match=rf"{name}\.gguf: not a whole GGUF file"):
            find_shape(ModelReference.parse(str(file)))


def test_header_against_the_gguf_package(tmp_path: Path) -> None:
    file = write_llama(tmp_path / "tiny.gguf")
    reader, header = gguf.GGUFReader(file), read_gguf_header(file, arrays=True)
    assert header.tensors == {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            assert header.metadata[name] == field.contents(), name


def test_gpt2_shapes_are_turned_back(tmp_path: Path) -> None:
    """GPT-2 keeps its matrices inputs first (Conv1D)."""
    writer = gguf.GGUFWriter(tmp_path / "gpt2.gguf", "gpt2")
    writer.add_tensor("token_embd.weight", np.zeros((320, 64), np.float32))
    writer.add_tensor("blk.0.attn_qkv.weight", np.zeros((192, 64), np.float32))
    writer.add_tensor("blk.0.attn_qkv.bias", np.zeros(192, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shape = find_shape(ModelReference.parse(str(tmp_path / "gpt2.gguf")))
    own = {name: tuple(value.shape) for name, value in tiny_model("gpt2").state_dict().items()}
    assert all(own[name] == found for name, found in shape.tensors.items())
    assert len(shape.tensors) == 3


def test_without_the_gguf_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = ModelReference.parse(str(write_llama(tmp_path / "tiny.gguf")))
    monkeypatch.setattr("llmtune.extras.have", lambda module: module != "gguf")
    assert find_shape(reference).parameters
    with pytest.raises(MissingExtra, match=r"llmtune\[gguf\]"):
        resolve(reference)
    assert not [path for path in Path(os.environ["LLMTUNE_CACHE"], "models").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_two_processes_convert_at_once_and_one_is_killed(tmp_path: Path) -> None:
    file = write_llama(tmp_path / "tiny.gguf")
    code = (
        "import sys; from llmtune.models.find import resolve; from llmtune.models.reference import ModelReference;"
        "print(resolve(ModelReference.parse(sys.argv[1])))"
    )
    start: Callable[[], Any] = lambda: subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE)  # noqa: E731
    models = Path(os.environ["LLMTUNE_CACHE"], "models")
    killed = start()
    while not list(models.glob(".*.tmp")) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    both = [start(), start()]
    folders = {Path(process.communicate()[0].decode().split()[-1]) for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (folder,) = folders
    load_model(folder)
    assert [path.name for path in models.iterdir() if path.is_dir()] == [folder.name]


def test_identity_follows_the_contents(tmp_path: Path) -> None:
    one = write_llama(tmp_path / "one.gguf")
    moved = tmp_path / "elsewhere.gguf"
    moved.write_bytes(one.read_bytes())
    assert identity(ModelReference.parse(str(one))) == identity(ModelReference.parse(str(moved)))
    data = bytearray(one.read_bytes())
    data[-1] ^= 1
    moved.write_bytes(data)
    assert identity(ModelReference.parse(str(one))) != identity(ModelReference.parse(str(moved)))


def test_a_tensor_that_is_missing_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", _without(gguf.GGUFWriter.add_tensor, "blk.1.ffn_up.weight"))
    with pytest.raises(BadArtifact, match=r"layers\.1\.mlp\.up_proj"):
        resolve(ModelReference.parse(str(write_llama(tmp_path / "tiny.gguf"))))


def _without(add: Callable[..., None], left_out: str) -> Callable[..., None]:
    return lambda writer, name, tensor: None if name == left_out else add(writer, name, tensor)


def test_a_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m-00001-of-00003.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.add_tensor("token_embd.weight", np.zeros((320, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadArtifact, match=r"one of the 3 parts[\s\S]*--merge"):
        find_shape(ModelReference.parse(str(tmp_path / "m-00001-of-00003.gguf")))


@pytest.mark.parametrize("place", [8, 16])
def test_damaged_counts_are_told(tmp_path: Path, place: int) -> None:
    data = bytearray(write_llama(tmp_path / "tiny.gguf").read_bytes())
    data[place : place + 8] = b"\xff" * 8
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(BadArtifact, match="not a whole GGUF file"):
        read_gguf_header(tmp_path / "bad.gguf", arrays=True)


def test_an_alignment_of_nothing_is_told(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "bad.gguf", "llama")
    writer.add_uint32("general.alignment", 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(BadArtifact, match="not a whole GGUF file"):
        read_gguf_header(tmp_path / "bad.gguf")


def test_llama_3_begins_with_bos_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    def first(name: str, pre: str, **metadata: Any) -> int:
        folder = resolve(ModelReference.parse(str(write_llama(tmp_path / f"{name}.gguf", pre, **metadata))))
        return int(load_tokenizer(folder)("x")["input_ids"][0])

    assert first("unsaid", "pixtral") == 0
    assert first("no", "llama-bpe", add_add_bos_token=False) != 0
    assert first("other", "smollm") != 0

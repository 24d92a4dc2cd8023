"""`prune` in a recipe: its result is quantized and exported like any checkpoint, and a mistake is one message."""

from __future__ import annotations

import json

import pytest

from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents

CORPUS = "corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.1}, near_duplicates: null}"


@pytest.mark.slow
def test_a_pruned_model_is_quantized_and_exported(line: CommandLine) -> None:
    pytest.importorskip("llmcompressor")
    pytest.importorskip("xllamacpp")
    write_documents(line.folder / "docs")
    line.recipe(f"""
        {CORPUS}
        prune: {{keep_width: 0.5, keep_layers: 1, calibration: {{rows: 4, tokens: 32}}}}
        quantize: {{method: gptq, group_size: 64, calibration: {{rows: 4, tokens: 32}}}}
        export: {{id: gguf, format: gguf, type: q8_0, pre_tokenizer: gpt-2, from: prune}}
    """)
    ran = line.run("run", "toy.yaml", timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    records = [json.loads(path.read_text()) for path in sorted(line.folder.glob("runs/toy/*/stage.json"))]
    sizes = {record["id"]: record["metrics"].get("parameters") for record in records}
    assert sizes["quantize"] == sizes["prune"] == _parameters(width=64, layers=1)
    proof = next(record["metrics"]["verification"] for record in records if record["id"] == "gguf")
    assert proof["conversion"]["top1"] == 1.0


def _parameters(width: int, layers: int) -> int:
    """Of the tiny Llama: hidden 64, vocabulary 320, tied head, two heads of 16 for keys and for values."""
    attention = 2 * 64 * 64 + 2 * 64 * 32
    return 320 * 64 + layers * (attention + 3 * 64 * width + 2 * 64) + 64


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "said"), [
    ("{keep_layers: 0}", "prune.keep_layers: found 0, expected a number of at least 1"),
    ("{keep_layers: 3}", "there are 2 layers, fewer than 3"),
])  # fmt: skip
def test_what_is_asked_in_vain_is_one_message(line: CommandLine, settings: str, said: str) -> None:
    write_documents(line.folder / "docs")
    line.recipe(f"{CORPUS}\nprune: {settings}")
    ran = line.run("plan", "toy.yaml")
    assert ran.returncode != 0, ran.stdout
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr

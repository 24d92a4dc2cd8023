"""The `trim_vocabulary` stage: its setting is read, its plan comes near, and the road behind it goes to the end."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.machine import Machine
from llmtune.models.shape import ModelShape, read_shape
from llmtune.stages.stage import Context, Forecast
from llmtune.stages.trim_vocabulary import TrimVocabularyStage
from tests.run.conftest import CommandLine
from tests.run.test_kill import write_documents
from tests.stages.fields import WIRING, paths_of
from tests.tiny import TEXT, tiny_checkpoint

MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())
TRIMMED = """
corpus: {sources: [{path: docs}], split: {valid: 0.1, test: 0.1}, near_duplicates: null}
trim_vocabulary: {min_count: 120}
"""


def test_the_setting_is_read(tmp_path: Path) -> None:
    assert paths_of(TrimVocabularyStage) == {"min_count"} | set(WIRING)
    write_split(tmp_path / "corpus", "train", [Document("d", " ".join(TEXT), None, "s", None, "", "d")])
    write_split(tmp_path / "corpus", "valid", [])
    model = tiny_checkpoint(tmp_path / "model", vocab_size=486)
    inputs = {
        "checkpoint": Artifact("checkpoint", model, "f", "base", "model", metrics={"trust_remote_code": True}),
        "corpus": Artifact("corpus", tmp_path / "corpus", "c", "corpus", "corpus"),
    }
    sizes = []
    for least in (1, 3):
        stage = TrimVocabularyStage(min_count=least)
        output = tmp_path / str(least)
        output.mkdir()
        metrics = stage.run(inputs, Context(output, tmp_path / "work", seed=7))
        assert metrics["trust_remote_code"] is True
        sizes.append(read_shape(output).vocab_size)
    assert sizes[0] > sizes[1]
    assert TrimVocabularyStage().min_count == 3


def _plan(shape: ModelShape | None, tokens: int = 1_600_000):
    inputs = {
        "checkpoint": Forecast("checkpoint", bytes=1000, shape=shape),
        "corpus": Forecast("corpus", bytes=0, tokens={"train": tokens}),
    }
    return TrimVocabularyStage().plan(inputs, MACHINE)


def test_plan() -> None:
    """Of the PostgreSQL pages (1.6 M tokens) 13,888 of SmolLM2's 49,152 tokens stay."""
    tensors = {"model.embed_tokens.weight": (49152, 576), "model.norm.weight": (576,)}
    shape = ModelShape({"model_type": "llama", "vocab_size": 49152}, tensors, 2 * (49152 + 1) * 576)
    plan = _plan(shape)
    assert plan.makes.shape.vocab_size == plan.makes.shape.config["vocab_size"] == pytest.approx(13888, rel=0.1)
    assert plan.makes.bytes == 2 * plan.makes.shape.parameters
    assert plan.memory > 2 * shape.bytes
    assert "tokens stay" in plan.notes[0]
    assert _plan(shape, 10**12).makes.shape.vocab_size == 49152
    unknown = _plan(shape, 0)
    assert unknown.makes.shape.vocab_size == 49152
    assert unknown.notes == ("how many tokens stay is not known before the corpus is made",)
    assert _plan(None).makes.shape is None
    small = ModelShape({"model_type": "llama", "vocab_size": 320}, {"model.embed_tokens.weight": (320, 64)}, 40_960)
    assert _plan(small).memory >= 800 << 20  # the libraries, and 2 MB of text while it is tokenized
    as_many = {"bert.embeddings.word_embeddings.weight": (512, 64), "cls.predictions.bias": (512,),
               "bert.embeddings.position_embeddings.weight": (512, 64),
               "bert.embeddings.token_type_embeddings.weight": (512, 64),
               "bert.embeddings.narrowed.weight": (64, 512)}  # fmt: skip
    assert not _plan(ModelShape({"model_type": "bert", "vocab_size": 512}, as_many, 1000)).problems
    inside = tensors | {"model.embed_tokens_per_layer.weight": (49152, 256)}
    assert "further weights for each token" in _plan(ModelShape(shape.config, inside, 0)).problems[0]
    quantized = ModelShape(shape.config | {"quantization_config": {"bits": 4}}, tensors, 0)
    assert "quantized" in _plan(quantized).problems[0]
    assert "not known" in _plan(ModelShape(shape.config, {}, 0)).problems[0]


@pytest.mark.slow
def test_perplexities_compare_as_one_text_s(tmp_path: Path) -> None:
    """Not as one token's. The road behind the stage: tests/run/test_kill.py."""
    model = tiny_checkpoint(tmp_path / "model", vocab_size=486)
    line = CommandLine(tmp_path, model)
    write_documents(tmp_path / "docs")

    evaluate = "{minutes: 1, tokens: 400, general: null, speed: false, knowledge: 0, questions: 0}"
    line.recipe(TRIMMED, "scores", f'seed: 3\nevaluate: {evaluate}\ngates: {{domain_perplexity: "<= 100_000 of base"}}')
    ran = line.run("run", "scores.yaml", timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    records = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/scores/*/stage.json")}
    metrics = {each.partition("-")[2]: record["metrics"] for each, record in records.items()}
    (sentence,) = [gate["sentence"] for record in records.values() for gate in record["gates"]]
    assert "Trim vocabulary" in (tmp_path / "runs/scores/report.html").read_text()
    assert metrics["trim_vocabulary"]["vocabulary"] < 486
    base, trimmed = metrics["base.evaluate"], metrics["trim_vocabulary.evaluate"]
    assert base["domain_text"] == trimmed["domain_text"]
    assert base["domain_tokens"] < trimmed["domain_tokens"]
    loss_of_text = trimmed["domain_tokens"] * math.log(trimmed["domain_perplexity"])
    said = re.search(r"trim_vocabulary: ([\d,]+) \(in tokens of base\) is <= ", sentence)
    assert said is not None, sentence
    assert float(said[1].replace(",", "")) == pytest.approx(math.exp(loss_of_text / base["domain_tokens"]), rel=1e-3)

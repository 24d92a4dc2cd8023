"""What plans say of the text that weights are fitted to: the same in every stage that takes one, by one count of the
machine's speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmtune import machine
from llmtune.cli.app import build_app
from llmtune.corpus.estimate import Estimate, reading_estimate
from llmtune.corpus.filters.settings import PerplexitySettings
from llmtune.machine import Accelerator, Machine
from llmtune.models.shape import ModelShape, read_shape
from llmtune.stages import stage_kinds
from llmtune.stages.stage import Forecast, Plan
from tests.tiny import TEXT, tiny_checkpoint
from tests.training.test_isolation import opt_model

CPU = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())
GPU = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=(Accelerator("A", 8 << 30, (9, 0)),))
STAGES: dict[str, dict[str, Any]] = {"quantize": {}, "prune": {"keep_width": 64}, "moe": {}}
ROWS, TOKENS = 4, 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(params=STAGES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plan(kind: str, shape: ModelShape | None, tokens: int, rows: int = ROWS, on: Machine = CPU) -> Plan:
    stage = stage_kinds()[kind].model_validate(STAGES[kind] | {"calibration": {"rows": rows, "tokens": TOKENS}})
    corpus = Forecast("corpus", 0, tokens={"train": tokens})
    return stage.plan({"checkpoint": Forecast("checkpoint", 1000, shape), "corpus": corpus}, on)


def has(sentences: tuple[str, ...], part: str) -> bool:
    return any(part in sentence for sentence in sentences)


def test_every_stage_says_the_same_of_its_text(kind: str, model: Path) -> None:
    shape = read_shape(model)
    plenty, little, none = (plan(kind, shape, tokens) for tokens in (ROWS * TOKENS, ROWS * TOKENS - 1, TOKENS - 1))
    assert not has(plenty.notes, "the calibration asks for")
    assert has(little.notes, "the train split holds about 127 tokens, the calibration asks for 128")
    assert has(none.problems, "holds about 31 tokens, less than one row")
    for found in (plenty, little):
        assert not has(found.problems, "train split")
    table = {"model.decoder.embed_positions.weight": (TOKENS - 1, 64)}
    refused = plan(kind, ModelShape(shape.config, shape.tensors | table, 0), ROWS * TOKENS)
    assert has(refused.problems, "calibration.tokens 32 is more than the 31 positions")


def test_a_shape_that_is_not_known_hides_nothing(kind: str) -> None:
    found = plan(kind, None, TOKENS - 1)
    assert has(found.problems, "less than one row")
    assert found.disk == found.makes.bytes == 1000
    assert has(plan(kind, None, TOKENS).notes, "the calibration asks for 128")


def test_what_cannot_be_converted_hides_nothing(model: Path) -> None:
    shape = read_shape(model)
    odd = ModelShape(shape.config | {"model_type": "mamba"}, shape.tensors, 0)
    for kind in ("prune", "moe"):
        problems = plan(kind, odd, TOKENS - 1).problems
        assert has(problems, "less than one row")
        assert len(problems) == 2


def test_the_plan_of_a_recipe_refuses_rows_beyond_the_positions(tmp_path: Path) -> None:
    """OPT has no embedding for a 65th token of a row, with 64 positions."""
    folder = tiny_checkpoint(tmp_path / "model")
    opt_model().save_pretrained(folder)
    (tmp_path / "a.txt").write_text("\n".join(TEXT))
    recipe = "name: tiny\nmodel: model/\nstages:\n- corpus: {sources: [{path: a.txt}]}\n- quantize: {}\n"
    (tmp_path / "tiny.yaml").write_text(recipe)

    def told(tokens: int) -> tuple[int, str]:
        setting = f"quantize.calibration={{rows: 1, tokens: {tokens}}}"
        line = ["plan", str(tmp_path / "tiny.yaml"), setting, "--runs", str(tmp_path / "runs")]
        done = CliRunner().invoke(build_app([]), line)
        return done.exit_code, " ".join(done.output.split())

    code, output = told(65)
    assert code == 1
    assert "calibration.tokens 65 is more than the 64 positions that this model has weights for" in output
    assert "positions" not in told(64)[1]


@pytest.mark.parametrize("on", [CPU, GPU], ids=["cpu", "gpu"])
def test_every_plan_counts_on_the_same_rates(on: Machine, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all products take ten times as long, so does what text adds to a plan."""
    shape, reader = read_shape(model), PerplexitySettings(model=str(model), max=9)

    def of_text() -> list[float]:
        many, few = 10**9, 10**8
        added = [
            (plan(kind, shape, 10**12, many, on).seconds or 0) - (plan(kind, shape, 10**12, few, on).seconds or 0)
            for kind in STAGES
        ]
        read = [reading_estimate(reader, Estimate(size, size), on).seconds for size in (many, few)]
        return [*added, read[0] - read[1]]

    before = of_text()
    assert min(before) > 0
    monkeypatch.setattr(machine, "_CORE_RATE", {name: rate / 10 for name, rate in machine._CORE_RATE.items()})
    monkeypatch.setattr(machine, "_GPU_RATE", machine._GPU_RATE / 10)
    assert of_text() == pytest.approx([10 * one for one in before], rel=0.01)

"""Every setting of the `prune` stage is read: change it, and other tensors are stored. And what its plan says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmtune.artifacts import Artifact
from llmtune.corpus.store import Document, write_split
from llmtune.files import read_json, sha256_file
from llmtune.machine import Machine, this_machine
from llmtune.models.shape import ModelShape, read_shape
from llmtune.stages.prune import PruneStage
from llmtune.stages.stage import Context, Forecast
from tests.stages.fields import WIRING, paths_of, with_setting
from tests.tiny import TEXT, tiny_checkpoint

BASE: dict[str, Any] = {"keep_width": 128, "keep_layers": 2, "calibration": {"rows": 4, "tokens": 32}}
CHANGES: dict[str, Any] = {
    "keep_width": 0.25,
    "keep_layers": 1,
    "keep_parameters": 0.4,
    "calibration.rows": 6,
    "calibration.tokens": 48,
    "calibration.seed": 1,
}
MACHINE = Machine(cores=2, memory=8 << 30, flags=frozenset(), accelerators=())

Made = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """settings → the folder that the stage makes; each settings run once."""
    place = tmp_path_factory.mktemp("prune")
    texts = [" ".join(TEXT[(number + step) % len(TEXT)] for step in range(4)) + f" {number}" for number in range(40)]
    documents = [Document(f"d{n}", text, None, "s", None, "", str(n)) for n, text in enumerate(texts)]
    write_split(place / "corpus", "train", documents)
    model = tiny_checkpoint(place / "model", "llama", layers=3, intermediate_size=256, dtype="bfloat16")
    inputs = {
        "checkpoint": Artifact("checkpoint", model, "f", "base", "model", metrics={"trust_remote_code": True}),
        "corpus": Artifact("corpus", place / "corpus", "c", "corpus", "corpus"),
    }
    folders: dict[str, Path] = {}

    def run(settings: dict[str, Any]) -> Path:
        if repr(settings) not in folders:
            output = place / str(len(folders)) / "output"
            output.mkdir(parents=True)
            metrics = PruneStage.model_validate(settings).run(inputs, Context(output, output.parent / "work", seed=7))
            assert metrics["trust_remote_code"] is True
            folders[repr(settings)] = output
        return folders[repr(settings)]

    return run


def test_the_table_is_complete() -> None:
    assert paths_of(PruneStage) == set(CHANGES) | set(WIRING)


@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(made: Made, path: str) -> None:
    base = BASE if path != "keep_parameters" else {name: BASE[name] for name in BASE if name != "keep_width"}
    changed = with_setting(base, path, CHANGES[path])
    weights = [sha256_file(made(settings) / "model.safetensors") for settings in (BASE, changed)]
    assert weights[0] != weights[1]
    assert PruneStage.model_validate(changed).identity() != PruneStage.model_validate(BASE).identity()


def test_defaults_are_those_described(made: Made) -> None:
    for settings in (with_setting(BASE, "calibration.seed", 7), BASE | {"keep_width": 0.5, "keep_layers": 0.67}):
        assert sha256_file(made(settings) / "model.safetensors") == sha256_file(made(BASE) / "model.safetensors")
    assert read_shape(made({"keep_width": 64})).layers == 3
    assert read_shape(made({"keep_layers": 2})).intermediate_size == 256
    calibration = PruneStage(keep_layers=2).calibration
    assert (calibration.rows, calibration.tokens) == (64, 512)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"keep_layers": 0},
        {"keep_width": 1.5},
        {"keep_width": 0},
        {"keep_layers": -0.5},
        {"keep_parameters": 1.0},
        {"keep_parameters": 0.5, "keep_width": 64},
    ],
    ids=str,
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PruneStage.model_validate(settings)


def test_one_is_all_neurons_but_a_single_layer() -> None:
    stage = PruneStage.model_validate({"keep_width": 1, "keep_layers": 1})
    assert (type(stage.keep_width), stage.keep_width) == (float, 1.0)
    assert (type(stage.keep_layers), stage.keep_layers) == (int, 1)


def _plan(settings: dict[str, Any], shape: ModelShape | None, tokens: int = 10**6) -> Any:
    inputs = {
        "checkpoint": Forecast("checkpoint", bytes=1000, shape=shape),
        "corpus": Forecast("corpus", bytes=0, tokens={"train": tokens}),
    }
    return PruneStage.model_validate(settings).plan(inputs, MACHINE)


def test_plan_knows_the_shape_and_the_bytes(made: Made) -> None:
    model = made(BASE).parents[1] / "model"
    plan = _plan(BASE, read_shape(model))
    real = read_shape(made(BASE))
    assert not plan.problems
    assert plan.makes.shape.tensors == real.tensors
    assert plan.makes.bytes == plan.makes.shape.bytes == real.bytes
    said, written = plan.makes.shape.config, read_json(made(BASE) / "config.json")
    assert {name: said[name] for name in said if said[name] != written.get(name)} == {}
    assert any("% of the parameters stay" in note for note in plan.notes)
    again = _plan({"keep_width": 0.5}, plan.makes.shape)  # a later stage takes the shape for what it is
    assert again.makes.shape.intermediate_size == 64


def test_plan_names_what_cannot_work(made: Made) -> None:
    shape = read_shape(made(BASE).parents[1] / "model")
    assert "3 layers, fewer than 4" in _plan({"keep_layers": 4}, shape).problems[0]
    assert "less than one row" in _plan(BASE, shape, tokens=20).problems[0]
    assert any("the calibration asks for 128" in note for note in _plan(BASE, shape, tokens=100).notes)
    table = ModelShape(shape.config, shape.tensors | {"transformer.wpe.weight": (16, 64)}, 0)
    assert "calibration.tokens 32 is more than the 16 positions" in _plan(BASE, table).problems[0]
    assert _plan({"keep_width": 1}, table, tokens=20).problems == ()  # nothing goes, so no text is read
    mamba = ModelShape({"model_type": "mamba"}, {}, 0)
    assert "cannot be pruned" in _plan(BASE, mamba).problems[0]
    assert _plan(BASE, None).makes.bytes == 1000


def test_plan_imports_no_torch() -> None:
    code = (
        "import sys; from llmtune.models.shape import ModelShape; from llmtune.stages.prune import PruneStage;"
        "from llmtune.stages.stage import Forecast; from llmtune.machine import this_machine;"
        "names = {f'model.layers.0.mlp.{n}_proj.weight': (128, 64) for n in ('gate', 'up')};"
        "names['model.layers.0.mlp.down_proj.weight'] = (64, 128);"
        "names['model.embed_tokens.weight'] = (320, 64);"
        "config = {'model_type': 'llama', 'num_hidden_layers': 1, 'intermediate_size': 128, 'hidden_size': 64};"
        "model = Forecast('checkpoint', 0, ModelShape(config, names, 0));"
        "inputs = {'checkpoint': model, 'corpus': Forecast('corpus', 0)};"
        "plan = PruneStage(keep_width=0.5).plan(inputs, this_machine());"
        "assert plan.makes.shape.intermediate_size == 64 and not plan.problems, plan;"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_plan_knows_the_memory(tmp_path: Path) -> None:
    """The plan's memory is the peak of a process that prunes 34 M weights, to a quarter."""
    size = {"vocab_size": 16384, "hidden_size": 512, "intermediate_size": 1536, "layers": 8}
    model = tiny_checkpoint(tmp_path / "model", "llama", dtype="bfloat16", **size)
    texts = [" ".join(TEXT) + f" {number}" for number in range(100)]
    documents = [Document(f"d{n}", text, None, "s", None, "", str(n)) for n, text in enumerate(texts)]
    write_split(tmp_path / "corpus", "train", documents)
    (tmp_path / "output").mkdir()
    code = (
        "import sys; from pathlib import Path; from llmtune.machine import high_water_mark;"
        "from llmtune.compress.prune import prune; from llmtune.compress.prune_target import Wish;"
        "from llmtune.compress.quantize import Calibration;"
        "place = Path(sys.argv[1]);"
        "prune(place / 'model', place / 'output', wish=Wish(0.5, 6),"
        "calibration=Calibration(place / 'corpus', 4, 256, 7), work=place / 'work');"
        "print(high_water_mark())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    settings = {"keep_width": 0.5, "keep_layers": 6, "calibration": {"rows": 4, "tokens": 256}}
    inputs = {
        "checkpoint": Forecast("checkpoint", bytes=0, shape=read_shape(model)),
        "corpus": Forecast("corpus", bytes=0, tokens={"train": 10**6}),
    }
    planned = PruneStage.model_validate(settings).plan(inputs, this_machine()).memory
    assert planned == pytest.approx(int(done.stdout.split()[-1]), rel=0.25)

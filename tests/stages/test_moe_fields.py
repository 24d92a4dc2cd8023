"""Every setting of the `moe` stage is read: change it, and other tensors are stored, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from llmtune.artifacts import Artifact
from llmtune.files import read_json
from llmtune.machine import Machine, this_machine
from llmtune.models.shape import read_shape
from llmtune.section import read_section
from llmtune.stages.moe import MoeStage
from llmtune.stages.stage import Context, Forecast, Plan
from tests.stages.fields import WIRING, paths_of, with_setting
from tests.stages.test_quantize_fields import _corpus, _tensors
from tests.tiny import tiny_checkpoint

SPLIT: dict[str, Any] = {"method": "split", "calibration": {"rows": 4, "tokens": 32}}
UPCYCLE: dict[str, Any] = {"method": "upcycle", "experts": 3}
# setting → (the settings beside it, the changed value), once for each method with code of its own for it
CHANGES: dict[str, list[tuple[dict[str, Any], Any]]] = {
    "method": [(SPLIT | {"calibration": None}, "upcycle")],
    "experts": [(SPLIT, 14), (UPCYCLE, 5)],
    "active": [(SPLIT, 3), (UPCYCLE, 1)],
    "shared": [(SPLIT, 10)],
    "grouping": [(SPLIT, "random")],
    "calibration.rows": [(SPLIT, 6)],
    "calibration.tokens": [(SPLIT, 48)],
    "calibration.seed": [(SPLIT, 1)],
}
CASES = [
    pytest.param(path, *case, id=f"{path}-{case[0]['method']}-{case[1]}")
    for path, cases in CHANGES.items()
    for case in cases
]

Converted = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    place = tmp_path_factory.mktemp("moe")
    return {
        "checkpoint": Artifact("checkpoint", tiny_checkpoint(place / "model"), "f", "base", "model"),
        "corpus": Artifact("corpus", _corpus(place / "corpus"), "c", "corpus", "corpus"),
    }


@pytest.fixture(scope="module")
def converted(inputs: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """settings → the folder that the stage makes of them; each settings run once."""
    place = tmp_path_factory.mktemp("converted")
    made: dict[str, Path] = {}

    def run(settings: dict[str, Any]) -> Path:
        if repr(settings) not in made:
            folder = place / str(len(made))
            (folder / "output").mkdir(parents=True)
            stage = MoeStage.model_validate(settings)
            taken = {need.name: inputs[need.name] for need in stage.inputs_needed()}
            metrics = stage.run(taken, Context(folder / "output", folder / "work", seed=7))
            assert plan_of(stage, taken).makes.shape.parameters == metrics["parameters"]  # type: ignore[union-attr]
            made[repr(settings)] = folder / "output"
        return made[repr(settings)]

    return run


def plan_of(stage: MoeStage, inputs: dict[str, Artifact], train_tokens: int = 10_000) -> Plan:
    shape = read_shape(inputs["checkpoint"].folder)
    forecasts = {"checkpoint": Forecast("checkpoint", shape.bytes, shape)}
    if "corpus" in inputs:
        forecasts["corpus"] = Forecast("corpus", 1, tokens={"train": train_tokens})
    return stage.plan(forecasts, this_machine())


def test_the_table_is_complete() -> None:
    assert paths_of(MoeStage) == set(CHANGES) | set(WIRING)


@pytest.mark.parametrize(("path", "base", "value"), CASES)
def test_setting_is_read(converted: Converted, path: str, base: dict[str, Any], value: Any) -> None:
    changed = with_setting(base, path, value)
    if changed["method"] == "upcycle":
        changed.pop("calibration", None)
    assert (_tensors(converted(changed)), active_of(converted(changed))) != (
        _tensors(converted(base)),
        active_of(converted(base)),
    )
    assert MoeStage.model_validate(changed).identity() != MoeStage.model_validate(base).identity()


def active_of(folder: Path) -> int:
    return int(read_json(folder / "config.json")["num_experts_per_tok"])


def test_defaults_are_those_described(converted: Converted) -> None:
    written = {"experts": 6, "active": 2, "shared": 2, "grouping": "activity"}
    assert _tensors(converted(SPLIT | written)) == _tensors(converted(SPLIT))
    seed = {"calibration": SPLIT["calibration"] | {"seed": 7}}
    assert _tensors(converted(SPLIT | seed)) == _tensors(converted(SPLIT))
    assert (MoeStage().text().rows, MoeStage().text().tokens) == (32, 512)
    assert MoeStage.model_validate({"method": "upcycle"}).layout().experts == 4
    assert active_of(converted(UPCYCLE)) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "split", "experts": 4, "active": 5}, r"active \(5\) is more than there are experts \(4\)"),
        ({"method": "upcycle", "active": 5}, r"active \(5\) is more than there are experts \(4\)"),
        (UPCYCLE | {"shared": 1}, "shared is for method split"),
        (UPCYCLE | {"grouping": "random"}, "grouping is for method split"),
        (UPCYCLE | {"calibration": {"rows": 4}}, "calibration is for method split"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MoeStage.model_validate(settings)


def test_plans_tell_what_cannot_work(inputs: dict[str, Artifact]) -> None:
    told = plan_of(MoeStage(experts=5), inputs)
    assert "5 experts and a shared one 2 times as wide do not divide" in told.problems[0]
    assert "less than one row of calibration text" in plan_of(MoeStage(), inputs, train_tokens=100).problems[0]
    plan = plan_of(MoeStage(), inputs)
    assert not plan.problems
    assert plan.memory > plan.disk > 0
    assert plan.seconds
    shape = read_shape(inputs["checkpoint"].folder)
    for method in ("bitsandbytes", "compressed-tensors"):
        quantized = replace(shape, config=shape.config | {"quantization_config": {"quant_method": method}})
        forecasts = {"checkpoint": Forecast("checkpoint", 1, quantized), "corpus": Forecast("corpus", 1)}
        assert f"quantized ({method})" in MoeStage().plan(forecasts, this_machine()).problems[0]


def test_plan_counts_fp32_where_a_split_runs_in_it(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """What the model and the parts cut from it take more in fp32 than in bf16, by their tensors."""
    model = tiny_checkpoint(tmp_path / "model", dtype="bfloat16")
    (tmp_path / "made").mkdir()
    taken = inputs | {"checkpoint": Artifact("checkpoint", model, "f", "base", "model")}
    MoeStage.model_validate(SPLIT).run(taken, Context(tmp_path / "made", tmp_path / "work", seed=7))
    whole, cut = load_file(model / "model.safetensors"), load_file(tmp_path / "made" / "model.safetensors")
    tensors = [*whole.values(), *(one for name, one in cut.items() if ".mlp." in name)]
    assert {one.itemsize for one in tensors} == {2}

    def memory(settings: dict[str, Any], flags: set[str]) -> int:
        shape, machine = read_shape(model), Machine(2, 8 << 30, frozenset(flags), ())
        forecasts = {"checkpoint": Forecast("checkpoint", shape.bytes, shape), "corpus": Forecast("corpus", 1)}
        return MoeStage.model_validate(settings).plan(forecasts, machine).memory

    assert memory(SPLIT, set()) - memory(SPLIT, {"avx512_bf16"}) == sum(one.nbytes for one in tensors)
    assert memory(UPCYCLE, set()) == memory(UPCYCLE, {"avx512_bf16"})


def test_the_report_shows_the_load(converted: Converted) -> None:
    section = read_section(converted(SPLIT))
    assert section is not None
    assert "6 routed experts of 16 neurons in a layer, 2 of them active for a token, beside a shared one of 32" in (
        section.summary
    )
    chart, error = section.charts
    assert (chart.kind, len(chart.x), list(chart.series)) == ("heat", 6, ["layer 1", "layer 2"])
    assert all(sum(share or 0 for share in shares) == pytest.approx(1) for shares in chart.series.values())
    assert error.x == [1, 2]
    assert all(0 < (missing or 0) < 0.5 for missing in error.series["error of the output"])
    upcycled = read_section(converted(UPCYCLE))
    assert upcycled is not None
    assert not upcycled.charts


def test_quantizing_a_mixture_is_refused_in_plan(inputs: dict[str, Artifact]) -> None:
    from llmtune.stages.quantize import QuantizeStage

    made = plan_of(MoeStage(), inputs).makes
    forecasts = {"checkpoint": made, "corpus": Forecast("corpus", 1, tokens={"train": 100_000})}
    problems = QuantizeStage().plan(forecasts, this_machine()).problems
    assert any("cannot store the experts of qwen2_moe; export it to GGUF" in problem for problem in problems)

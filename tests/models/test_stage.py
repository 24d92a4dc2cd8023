from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.errors import LlmtuneError
from llmtune.machine import this_machine
from llmtune.models.shape import read_shape
from llmtune.stages.model import ModelStage
from llmtune.stages.stage import Context
from tests.models.test_gguf import write_llama


def stage_of(name: Path | str) -> ModelStage:
    return ModelStage.model_validate({"id": "base", "model": {"name": str(name)}})


def test_a_folder_stays_where_it_is(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "mine")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "out").mkdir()
    metrics = stage_of(folder).run({}, Context(tmp_path / "out", tmp_path / "work", seed=1))
    assert json.loads((tmp_path / "out" / "location.json").read_text()) == {"location": str(folder)}
    shape = read_shape(folder)
    assert metrics == {
        "name": "mine", "licence": "mit", "family": "llama", "parameters": shape.parameters, "bytes": shape.bytes,
        "trust_remote_code": False,
    }  # fmt: skip


def test_plan_and_identity(checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = stage_of(checkpoint("llama")).plan({}, this_machine())
    assert plan.makes.shape == read_shape(checkpoint("llama"))
    assert (plan.disk, plan.problems) == (0, ())
    assert str(checkpoint("llama").parent) not in json.dumps(stage_of(checkpoint("llama")).identity())
    file = write_llama(tmp_path / "tiny.gguf")
    plan = stage_of(file).plan({}, this_machine())
    assert plan.disk == plan.makes.bytes == 2 * read_shape(checkpoint("llama")).parameters
    monkeypatch.setattr("llmtune.stages.model.have", lambda module: False)
    assert "llmtune[gguf]" in stage_of(file).plan({}, this_machine()).problems[0]
    identity = stage_of(file).identity()
    assert "licence" not in identity  # of a hub model it is known only while the hub is there
    assert stage_of(file).described(identity)["licence"] == "cc-by-4.0"
    with pytest.raises(LlmtuneError, match="was not found"):
        stage_of("nothing-of-this-name").plan({}, this_machine())

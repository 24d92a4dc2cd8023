"""Which model a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.errors import BadArtifact
from llmtune.models.files import model_at, model_in


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["config.json", "model.safetensors", "a.gguf"], "."),
        (["config.json", "b.gguf", "a.gguf"], "a.gguf"),
        (["a.gguf"], "a.gguf"),
        (["config.json"], "."),
        (["adapter_model.safetensors"], None),
        ([], None),
    ],
)
def test_the_model_in_a_folder(tmp_path: Path, files: list[str], expected: str | None) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert model_in(tmp_path) == (tmp_path / expected if expected else None)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter alone"),
        (["card.json"], "is a corpus"),
        ([], "holds no model"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, files: list[str], told: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(BadArtifact, match=told) as caught:
        model_at(tmp_path)
    assert caught.value.fix


def test_a_file_is_a_model_by_its_ending(tmp_path: Path) -> None:
    for name in ("x.gguf", "x.txt", "config.json"):
        (tmp_path / name).touch()
    assert model_at(tmp_path / "x.gguf") == model_at(tmp_path) == tmp_path / "x.gguf"
    with pytest.raises(BadArtifact, match=r"is a file but no \.gguf"):
        model_at(tmp_path / "x.txt")

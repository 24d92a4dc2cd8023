"""Which model a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtune.models.files import model_in


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

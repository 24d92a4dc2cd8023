"""docs/recipe-reference.md is what the settings classes say today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmtune import stages
from llmtune.recipe.recipe import Recipe
from llmtune.recipe.reference import reference
from tests.recipe.toys import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "recipe-reference.md"


def test_the_committed_page_is_current() -> None:
    """In a process of its own: the toy stages of this folder's tests are not part of the page."""
    done = subprocess.run(
        [sys.executable, "-m", "llmtune.recipe.reference"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert PAGE.read_text("utf-8") == done.stdout, "stale: run `make docs`"


def test_every_setting_is_in_it_with_its_default_and_limits() -> None:
    page = reference()
    for cls in (Recipe, *KINDS.values()):
        for name, field in cls.model_fields.items():
            assert f"| `{field.alias or name}` |" in page
    assert "| `rank` | whole number ≥ 1 | `16` | Its rank. |" in page
    assert "| `bits` | `3` · `4` · `8` | `4` | Bits of a weight. |" in page
    assert "| `sources` | list of [ToySource](#toysource) | **required** | Where the documents come from. |" in page
    assert "| `near_duplicates` | number or null ≥ 0, ≤ 1 | `0.8` |" in page
    assert "And a second paragraph." in page


def test_every_setting_of_the_real_stages_has_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for kind, cls in stages.stage_kinds().items():
        assert cls.__doc__, kind
        for name, field in cls.model_fields.items():
            assert field.description, f"{kind}.{name}"

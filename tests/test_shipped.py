"""Files that come along: in a checkout, in an installed package, and beside a folder that is another's."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from llmtune import shipped


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as it is installed below `tmp_path`, with nothing beside it."""
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "site-packages" / "llmtune" / "shipped.py"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path / "site-packages"


@pytest.mark.parametrize("name", ["recipes", "accelerate_configs"])
def test_found_in_the_checkout_and_where_they_are_installed(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert shipped.shipped_folder(name) == Path(__file__).parents[1] / name
    beside = request.getfixturevalue("site_packages") / name
    beside.mkdir(parents=True)  # of another package: no pyproject.toml says that this is a checkout
    assert shipped.shipped_folder(name) is None
    installed = tmp_path / "share" / "llmtune" / name
    installed.mkdir(parents=True)
    assert shipped.shipped_folder(name) == installed

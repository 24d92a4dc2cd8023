"""What the tests of llmtune.models share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_checkpoint


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    """No test reads or fills the user's cache, except those of the real model, whose conversion is worth keeping."""
    if "real" not in request.keywords:
        monkeypatch.setenv("LLMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny models gain nothing from threads, and lose much where other work wants the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if "real" in request.keywords else 1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """checkpoint(family) → a tiny checkpoint folder, made once a session. Tests copy it before they change it."""
    made: dict[str, Path] = {}

    def of(family: str = "llama") -> Path:
        if family not in made:
            made[family] = tiny_checkpoint(tmp_path_factory.mktemp("tiny") / family, family)
        return made[family]

    return of


@pytest.fixture
def fresh() -> Callable[..., str]:
    """fresh(code, *arguments, **environment) → standard output of a new Python process that runs the code."""

    def run(code: str, *arguments: object, **environment: str) -> str:
        import os

        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run

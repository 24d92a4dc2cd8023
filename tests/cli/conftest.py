from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def llmtune() -> Callable[..., Done]:
    """Run the real command line; `.stdout`, `.stderr` and `.returncode` of it."""

    def call(*arguments: object, stdin: str | None = None, env: dict[str, str] | None = None) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "llmtune", *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **(env or {})},
        )

    return call

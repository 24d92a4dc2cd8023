"""A command line that knows the toy stages, and recipes made of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtune.files import files_below, sha256_file
from tests.tiny import tiny_checkpoint

TOY = Path(__file__).parent / "toy"


class CommandLine:
    """`llmtune …` in a folder of its own, as a user types it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.model = model
        self.environment = os.environ | {
            "PYTHONPATH": str(TOY),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "LLMTUNE_THREADS": "1",
        }

    def recipe(self, stages: str, name: str = "toy", head: str = "") -> None:
        """Write NAME.yaml with these stages (flow YAML, one a line)."""
        lines = "\n".join(f"  - {line.strip()}" for line in stages.strip().splitlines())
        text = f"name: {name}\nmodel: {self.model}\n{head}\nstages:\n{lines}\n"
        (self.folder / f"{name}.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "llmtune", *arguments]

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait_for(self, what: Callable[[], object], seconds: float = 30) -> None:
        limit = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < limit, "it did not come about in time"
            time.sleep(0.02)

    def states(self) -> list[Path]:
        """The toy stages' checkpoints of artifacts being made."""
        return list(self.folder.glob("runs/.artifacts/.work/*/work/state"))

    def total(self, number_and_id: str, run: str = "toy") -> int:
        """What a finished stage made, found as a user would: record → store."""
        import json

        record = json.loads((self.folder / "runs" / run / number_and_id / "stage.json").read_text())
        return int((self.folder / "runs/.artifacts" / record["artifact"] / "total.txt").read_text())

    def augmented(self) -> dict[str, str]:
        """Hash of every file of the corpora that augmentation made, but for the descriptions (costs)."""
        return {
            str(path.relative_to(place)): sha256_file(path)
            for place in self.folder.glob("runs/.artifacts/[0-9a-f]*")
            if (place / "section.json").exists()
            for path in files_below(place)
            if path.name != "artifact.json"
        }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "llama")


@pytest.fixture
def line(tmp_path: Path, tiny_model: Path):
    command_line = CommandLine(tmp_path, tiny_model)
    yield command_line
    leftovers = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split()
    for process in leftovers:
        os.kill(int(process), signal.SIGKILL)
    assert not leftovers, "a worker outlived its run"

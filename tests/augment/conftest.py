"""A pretended Apertium: a program on the PATH, and two modes whose filters are Python."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

FILTER = Path(__file__).with_name("fake_filter.py")


@dataclass(frozen=True)
class FakeApertium:
    """Where it is, and what its filters were given."""

    folder: Path

    @property
    def modes(self) -> Path:
        return self.folder / "share" / "apertium" / "modes"

    @property
    def environment(self) -> dict[str, str]:
        """What makes it the Apertium of a process."""
        found = {key: value for key, value in os.environ.items() if key != "APERTIUM_DATADIR"}
        return found | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def given(self, direction: str = "there") -> list[str]:
        """The segments that were translated in a direction, in order."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [text for one, _, text in (line.partition("\t") for line in lines) if one == direction]


def pretended(folder: Path) -> FakeApertium:
    """Install it below a folder."""
    fake = FakeApertium(folder)
    (folder / "bin").mkdir(parents=True)
    fake.modes.mkdir(parents=True)
    program = folder / "bin" / "apertium"
    program.write_text("#!/bin/sh\necho Apertium 0.1\n")
    program.chmod(0o755)
    data = folder / "share" / "eng-spa.bin"
    data.write_text("data")
    filter = folder / "bin" / "fake-filter"
    filter.write_text(f"#!{sys.executable} -SE\n{FILTER.read_text()}")
    filter.chmod(0o755)
    for mode, direction in (("eng-spa", "there"), ("spa-eng", "back")):
        commands = [f"'{filter}' $1 '{data}' {one} 'log={folder / 'log'}'" for one in ("pass", direction)]
        (fake.modes / f"{mode}.mode").write_text(" | ".join(commands) + "\n")
    return fake


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApertium:
    found = pretended(tmp_path / "fake")
    monkeypatch.delenv("APERTIUM_DATADIR", raising=False)
    monkeypatch.setenv("PATH", found.environment["PATH"])
    return found

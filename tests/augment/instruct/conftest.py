"""The stage with a server of our own in the place of a model's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtune.augment.instruct import endpoint
from llmtune.augment.instruct.build import instruct
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.corpus.store import read_split
from llmtune.monitor import Monitor
from tests.augment.corpora import corpus_of, document
from tests.augment.instruct.server import KEY, Server, facts


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("OUR_KEY", KEY)
    monkeypatch.setattr(endpoint, "_LONGEST_WAIT", 0.01)
    one = Server()
    yield one
    one.close()


def settings_of(server: Server, **settings: Any) -> InstructSettings:
    generate = {"url": server.url, "model": "m", "key_variable": "OUR_KEY", "parallel": 2} | settings
    return InstructSettings.model_validate({"rules": [], "generate": generate})


def made(
    folder: Path, server: Server, documents: int = 8, monitor: Monitor | None = None, **settings: Any
) -> tuple[Path, dict[str, Any]]:
    if not (folder / "corpus").exists():
        corpus_of(folder / "corpus", [document(f"{number}.md", facts(number)) for number in range(documents)])
    output = folder / "output"
    return output, instruct(folder / "corpus", settings_of(server, **settings), output, folder / "work", 3, monitor)


def answers(output: Path) -> list[str]:
    return [one.messages[-1].content for one in read_split(output, "train") if one.origin and one.messages]

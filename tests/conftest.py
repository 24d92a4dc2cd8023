"""What keeps two thousand tests in one process quick."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first. Two processes begin with a half of the tests each, so every other file's stand at the
    beginning of the second half; those of one file, and what they share, stay together."""
    longest = [item for item in items if item.get_closest_marker("longest")]
    files = list(dict.fromkeys(item.path for item in longest))
    first = [item for item in longest if files.index(item.path) % 2 == 0]
    second = [item for item in longest if files.index(item.path) % 2]
    others = [item for item in items if item not in longest]
    half = max(0, len(items) // 2 - len(first))
    items[:] = first + others[:half] + second + others[half:]


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What was written outlives a killed process in any case; only a power cut asks for more, and no test has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def libraries_out_of_the_way() -> None:
    """A training ends in two full garbage collections, each of which looks at every object of every library: more than
    half of a tiny training's time. What stands before a module's tests is taken out of them."""
    gc.collect()
    gc.freeze()

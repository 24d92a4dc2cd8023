"""What keeps two thousand tests in one process quick."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


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

"""Sizes and times as a person reads them."""

from __future__ import annotations

import pytest

from llmtune.words import human_bytes, human_seconds


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (98.4e6, "98.4 MB"), (1.5e9, "1.5 GB"), (2e15, "2000.0 TB")]
)
def test_bytes(number: float, text: str) -> None:
    assert human_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.3, "under 1 s"), (4.2, "4 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text

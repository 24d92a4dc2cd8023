"""Code as a fenced block of Markdown."""

from __future__ import annotations

import re

_BACKTICKS = re.compile(r"`{3,}")


def fenced(code: str, language: str = "") -> str:
    """The block, its fence longer than any run of backticks in the code."""
    longest = max((len(run) for run in _BACKTICKS.findall(code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"

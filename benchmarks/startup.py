"""Seconds from typing a command to its end, median of five: `python benchmarks/startup.py [RECIPE]`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 0.5  # seconds, for each of the two
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one call; raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    """Print the median and the range of each command; 1 when one is above the limit."""
    recipe = sys.argv[1] if len(sys.argv) > 1 else str(RECIPE)
    program = [sys.executable, "-m", "llmtune"]
    slow = 0
    for arguments in (["--help"], ["validate", recipe]):
        seconds([*program, *arguments])  # writes the byte code the first time
        times = [seconds([*program, *arguments]) for _ in range(5)]
        middle = statistics.median(times)
        slow += middle > LIMIT
        print(f"llmtune {arguments[0]:<10} {middle:.2f} s  ({min(times):.2f} to {max(times):.2f}, limit {LIMIT} s)")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())

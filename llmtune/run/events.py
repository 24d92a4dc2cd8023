"""Events: what happened, one JSON object a line. Workers append to a file; the supervisor follows it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def append_event(path: Path, kind: str, /, **fields: Any) -> None:
    """Append one event, with the time in seconds since the epoch. One write call, so that lines stay whole."""
    line = json.dumps({"event": kind, "time": round(time.time(), 3), **fields}, ensure_ascii=False, default=str)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file; a last line cut short by a crash is left out."""
    if path.is_file():
        yield from Follower(path).poll()


class Follower:
    """Reads the lines that were appended to a file since the last look."""

    def __init__(self, path: Path, from_end: bool = False) -> None:
        self.path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0

    def poll(self) -> Iterator[dict[str, Any]]:
        """New whole lines, parsed."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # a crash (or a full disk) cut a line short and the next run went on behind it
                continue

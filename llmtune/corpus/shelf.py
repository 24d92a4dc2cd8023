"""Where finished portions stand: in the work folder of one build, or in a cache for the builds to come.

In the cache a portion is known by what it was made of: names and contents of its files, settings, version. A corpus of
more documents, or with other filters, then finds there what has not changed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.files import fingerprint

_VERSION = 1  # raise when the same files and settings come to give other portions
_UNUSED = 30 * 24 * 3600  # seconds after which what nobody used goes
_ABANDONED = 24 * 3600  # seconds after which what somebody began goes


@dataclass(frozen=True)
class Shelf:
    """folder: where portions stand. lasting: it is a cache."""

    folder: Path
    lasting: bool

    def place(self, number: str, made_of: Any) -> Path:
        """Where a portion stands. number: of it in this build; made_of: all that decides what it holds (JSON)."""
        return self.folder / (fingerprint([_VERSION, made_of]) if self.lasting else number)

    def tidy(self, used: Iterable[Path]) -> None:
        """Of a cache: mark what was used now, and let go what was not used for a month. The clock decides nothing but
        how long that is."""
        if not self.lasting:
            return
        now = time.time()
        for place in used:
            os.utime(place)
        for place in self.folder.iterdir():
            begun = place.name.startswith(".")
            if now - place.stat().st_mtime > (_ABANDONED if begun else _UNUSED):
                shutil.rmtree(place, ignore_errors=True)

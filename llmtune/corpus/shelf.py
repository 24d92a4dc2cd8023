"""Where finished portions stand: in the work folder of one build, or in a cache for the builds to come.

A portion is known by what it was made of: names and contents of its files, settings, versions. A corpus of more
documents, or with other filters, then finds in the cache what has not changed. Several builds may share a cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmtune.corpus.version import VERSION
from llmtune.files import files_below, fingerprint, made_whole, read_json, write_json

_FILES = "files.json"  # name → bytes of what a portion holds, to see that it is whole
_UNUSED = 30 * 24 * 3600  # seconds after which what nobody used goes
_ABANDONED = 24 * 3600  # seconds after which what somebody began goes
# What reads and judges, apart from this package.
_PACKAGES = (
    "chardet", "chardetng-py", "docutils", "ftfy", "lxml", "mammoth", "phonenumbers", "py3langid", "pyarrow",
    "pypdfium2", "python-pptx", "python-stdnum", "rensa", "selectolax", "xxhash",
)  # fmt: skip


@dataclass(frozen=True)
class Shelf:
    """folder: where portions stand. lasting: it is a cache."""

    folder: Path
    lasting: bool

    def place(self, made_of: Any) -> Path:
        """Where a portion stands. made_of: all that decides what it holds (JSON)."""
        return self.folder / fingerprint([versions(), made_of])

    def tidy(self) -> None:
        """Of a cache: let go what no build has used for a month, and what one began and left; to be called when this
        build has marked what it uses. The clock decides nothing but how long that is."""
        if not self.lasting:
            return
        now = time.time()
        for place in self.folder.iterdir():
            with suppress(OSError):  # another build is quicker, or may not be disturbed
                age = now - place.stat().st_mtime
                if place.name.startswith("."):
                    if age > _ABANDONED:
                        shutil.rmtree(place)
                elif age > _UNUSED:
                    discard(place)


def shelf_for(work: Path, cache: Path | None) -> Shelf:
    """A cache if there is one and it can be used, else the work folder."""
    if cache is not None:
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            if os.access(cache, os.W_OK):
                return Shelf(cache, lasting=True)
    return Shelf(work, lasting=False)


def made(place: Path, make: Callable[[Path], None]) -> None:
    """Let `make(temporary)` fill what is to stand at a place, unless it stands there already, whole."""
    was_there = place.exists()
    if _is_whole(place):
        mark_used(place)
        return
    if was_there:  # else another build may have made it since it was looked at
        discard(place, unless=_is_whole)

    def make_and_list(folder: Path) -> None:
        make(folder)
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}
        write_json(folder / _FILES, sizes)

    made_whole(place, make_and_list)


def mark_used(place: Path) -> None:
    """Say that a build uses what stands at a place, for a month from now."""
    with suppress(OSError):  # somebody else's
        os.utime(place)


def discard(place: Path, unless: Callable[[Path], bool] = lambda _: False) -> None:
    """Remove a place so that at no moment a part of it can be taken for the whole. unless: asked once it is out of
    reach of other builds, which may have put something else there; what it is true of goes back."""
    going = place.with_name(f".{place.name}.{os.getpid()}.old")
    shutil.rmtree(going, ignore_errors=True)
    try:
        place.rename(going)
    except FileNotFoundError:  # another build was quicker
        return
    if unless(going):
        with suppress(OSError):  # a third one has made it by now
            going.rename(place)
    shutil.rmtree(going, ignore_errors=True)


@cache
def versions() -> tuple[str, ...]:
    """Of what reads and judges documents; packages that are not there read and judge nothing."""
    found = [f"{sys.version_info.major}.{sys.version_info.minor}", str(VERSION)]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return tuple(found)


def _is_whole(place: Path) -> bool:
    try:
        sizes = read_json(place / _FILES)
        return all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False

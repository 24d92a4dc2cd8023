"""Where converted models are kept between runs, and how two processes share that place. Imports no torch."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmtune.files import made_whole, read_json, sha256_file, write_json

# Hashing less than this costs less than remembering it.
REMEMBERED_FROM = 16 << 20


def cache_folder() -> Path:
    """`$LLMTUNE_CACHE`, or `~/.cache/llmtune`; models are kept in `models/` below it."""
    chosen = os.environ.get("LLMTUNE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "llmtune"


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cached folder `name`; if it is not there, `make(temporary)` fills it, and it appears in one rename.

    Two processes at once: one makes it, the other waits. A process killed meanwhile leaves nothing that counts.
    """
    place = cache_folder() / "models" / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(f".{name}.lock")):
        return made_whole(place, make, alone=True)


def digest(file: Path) -> str:
    """Hex SHA-256 of a file; see `digests`."""
    with digests(file.parent) as of:
        return of(file)


@contextmanager
def digests(place: Path) -> Iterator[Callable[[Path], str]]:
    """file → hex SHA-256, for files below `place`. Remembered from one process to the next while a file's size, time of
    change and inode stay, where hashing took long enough to be worth it."""
    memory = cache_folder() / "digests" / f"{hashlib.sha256(os.fsencode(place.resolve())).hexdigest()[:24]}.json"
    try:
        known: dict[str, list[str]] = read_json(memory)
    except (OSError, ValueError):
        known = {}
    hashed = 0

    def of(file: Path) -> str:
        nonlocal hashed
        state = file.stat()
        name = os.fsencode(file.resolve()).decode("utf-8", "backslashreplace")
        stamp = f"{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
        if known.get(name, [""])[0] != stamp:
            known[name] = [stamp, sha256_file(file)]
            hashed += state.st_size
        return known[name][1]

    try:
        yield of
    finally:
        if hashed >= REMEMBERED_FROM:
            with suppress(OSError):  # a cache that cannot be written costs time only
                write_json(memory, known)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; freed by the system when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Where converted models are kept between runs, and how two processes share that place. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmtune.files import empty_folder, publish_folder, read_json, sha256_file, write_json

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
        if not place.is_dir():
            temporary = empty_folder(place.with_name(f".{name}.part"))
            try:
                make(temporary)
                publish_folder(temporary, place)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return place


def digest(file: Path) -> str:
    """Hex SHA-256 of a file. That of a large file is remembered while its size, time of change and inode stay."""
    state = file.stat()
    if state.st_size < REMEMBERED_FROM:
        return sha256_file(file)
    key = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
    memory = cache_folder() / "digests.json"
    try:
        known: dict[str, str] = read_json(memory)
    except (OSError, ValueError):
        known = {}
    if key not in known:
        known[key] = sha256_file(file)
        latest = dict(sorted(known.items())[-1000:])
        try:
            write_json(memory, latest)
        except OSError:
            return known[key]  # a cache that cannot be written costs time only
    return known[key]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; freed by the system when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

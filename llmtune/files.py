"""Files that survive a crash, and the fingerprints of their contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llmtune.errors import Disturbed, LlmtuneError
from llmtune.words import printable, visible

# As the system and SQLite put it.
_SIGNS_DISK_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")

MAKE_ROOM = "make room, then run the same command: what is finished is kept"
_NO_RIGHT = {errno.EACCES, errno.EPERM}
# Of the machine, whatever the program does.
_REFUSALS = _NO_RIGHT | {
    *(errno.EROFS, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOTCONN)
}


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (names, renames) to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush every file below `folder`, then the folders, so that a rename after it is all or nothing."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_symlink():
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: temporary name, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON, keys in the order given, one trailing newline."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The parsed contents of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder its final name: contents synced first, then one rename. `final` must not exist."""
    sync_tree(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(final)
    sync_folder(final.parent)


def empty_folder(folder: Path) -> Path:
    """Make `folder` exist and hold nothing."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def made_whole(folder: Path, make: Callable[[Path], None], *, alone: bool = False) -> Path:
    """`folder`; when it is not there, `make(temporary)` fills an empty one, which takes its name with one rename. Two
    at once both make it, and the first one's counts.

    alone: nobody else can be making it (a lock is held), so what one that was killed has left is removed first
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    if alone:
        for left in folder.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(folder.name)}\.\d+\.tmp", left.name):
                shutil.rmtree(left)
    temporary = empty_folder(folder.with_name(f".{folder.name}.{os.getpid()}.tmp"))
    try:
        make(temporary)
        publish_folder(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError) or not folder.is_dir():
            raise
    return folder


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that the disk or the quota is full. Some libraries only say it in words, and numpy's
    `tofile` (with neither number nor file) only that it wrote less than was asked for."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, LlmtuneError):  # it may quote what another machine says of its disk
        return False
    said = str(error)
    short_write = isinstance(error, OSError) and error.errno is None and " requested and " in said
    return short_write or any(sign in said for sign in _SIGNS_DISK_FULL)


def refusal(error: BaseException) -> Disturbed | None:
    """For the user, what the system refuses to do with a file; None where an exception may be a bug."""
    name = error.filename if isinstance(error, OSError) else None
    where = visible(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    if is_disk_full(error):
        return Disturbed("no space left on the disk", where=where, fix=MAKE_ROOM)
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    what, no_right = error.strerror or os.strerror(error.errno), error.errno in _NO_RIGHT
    if no_right and where is None and what == os.strerror(error.errno):
        return None  # of no file, and no library says of what
    fix = "give yourself the right to it and the folders above it" if no_right and where else None
    return Disturbed(visible(what), where=where, fix=fix)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Every regular file below a folder (or the file itself), sorted by path; links that leave it are not followed."""
    if folder.is_file():
        return [folder]
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file())


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, those with several names once; files that vanish meanwhile are left out."""
    sizes: dict[int, int] = {}
    for path in files_below(folder):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            sizes[state.st_ino] = state.st_size
    return sum(sizes.values())


def check_name(place: Path) -> None:
    """Raises LlmtuneError where a path is not UTF-8: records of ours, and libraries, hold paths as text."""
    path = str(place.resolve())
    shown = visible(path)
    if printable(path) != path:
        raise LlmtuneError("the name of this place is not UTF-8", where=shown, fix="rename it")


def stamps(files: Iterable[Path], folder: Path) -> dict[str, list[int]]:
    """Size and time of change (ns) of files below a folder, by their names there: enough to tell that others stand
    there now, and nothing is read."""
    found = {file.relative_to(folder).as_posix(): file.stat() for file in files}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def content_fingerprint(paths: Iterable[Path]) -> str:
    """Fingerprint of the names (relative to each path) and contents of files and folders, not of where they stand."""
    digest = hashlib.sha256()
    for top in paths:
        for path in files_below(top):
            name = path.name if path == top else path.relative_to(top).as_posix()
            digest.update(os.fsencode(name) + f"\0{sha256_file(path)}\n".encode())
        digest.update(b"\1")
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """24 hex digits of the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]

"""What stands in an archive or a compressed file, one entry after the other. Nothing in it is trusted.

An entry's name decides nothing about where it is written; its declared size decides nothing about how much is read. An
archive is read once from front to end, so a tar inside a compressed stream needs no room for the whole of it.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from llmtune.corpus.drops import LINK
from llmtune.corpus.place_settings import UnpackSettings
from llmtune.corpus.readers.reader import DAMAGED, EMPTY, PROTECTED, TOO_LARGE, UNREADABLE, UNSAFE, Unreadable
from llmtune.corpus.tar_header import Header, is_tar
from llmtune.words import human_bytes

_NAME_CHARACTERS = 4096  # of a path in an archive: as on most disks
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".tbz", ".txz", ".tzst", *(f".tar{suffix}" for suffix in _COMPRESSED))
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
)
_CHUNK = 1 << 16
_SMALL = 64 << 20  # bytes that are unpacked whatever the ratio: a page of blanks packs well, and harms nobody
_DAMAGE = (
    EOFError,
    IndexError,
    NotImplementedError,  # a compression of zip that Python does not know
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class Bomb(Unreadable):
    """An archive that unpacks to more than is allowed; the rest of it is not read."""

    def __init__(self, detail: str) -> None:
        super().__init__(TOO_LARGE, f"{detail} (`unpack` of the source says how far it may go)")


class Budget:
    """How much may still be unpacked from a file of `packed` bytes, archives in it included."""

    def __init__(self, limits: UnpackSettings, packed: int) -> None:
        self.limits = limits
        self.most = int(min(limits.max_total_bytes, max(_SMALL, limits.max_ratio * packed)))
        self.entries = self._bytes = 0

    def spend(self, size: int) -> None:
        """Count bytes unpacked. Raises Bomb."""
        self._bytes += size
        if self._bytes > self.most:
            raise Bomb(f"unpacks to more than {human_bytes(self.most)}")

    def count(self) -> None:
        """Count an entry. Raises Bomb."""
        self.entries += 1
        if self.entries > self.limits.max_files:
            raise Bomb(f"holds more than {self.limits.max_files:,} entries")


@dataclass(frozen=True)
class Entry:
    """name: its path in the archive, as it may stand in ids; "" for what a compressed file holds. problem: why it is
    not unpacked. save: write its content to a path; raises Unreadable, and OSError when it cannot be written."""

    name: str
    problem: tuple[str, str] | None = None
    save: Callable[[Path], None] = lambda to: None


def is_container(name: str) -> bool:
    """Whether a file of this name holds other files, or one that is compressed."""
    return name.lower().endswith((*_COMPRESSED, *_ARCHIVES))


def is_archive(name: str) -> bool:
    """Whether a file of this name holds other files."""
    return name.lower().endswith(_ARCHIVES)


def kind_of(path: Path) -> str | None:
    """What kind of archive or compression a file is by its content; None for any other."""
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    found = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    return found or ("tar" if is_tar(head) else None)


def inner_name(name: str) -> str:
    """The name of what a compressed file holds: `a.txt` for `a.txt.gz`."""
    return name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(_COMPRESSED) else name


def entries(path: Path, budget: Budget) -> Iterator[Entry]:
    """What a container holds, by its content and not its name. An entry can be saved until the next one is asked for.
    Raises Unreadable where it is damaged, what came before having been given; Bomb."""
    try:
        kind = kind_of(path)
        before = budget.entries
        if kind == "zip":
            yield from _of_zip(path, budget)
        elif kind == "tar":
            with path.open("rb") as file:
                yield from _of_tar(file, budget)
        elif kind is not None:
            yield from _of_compressed(path, kind, budget)
        elif path.stat().st_size == 0:
            raise Unreadable(EMPTY, "0 bytes")
        else:
            raise Unreadable(DAMAGED, "neither gzip, bzip2, xz, zstd, zip nor tar by its first bytes")
        if budget.entries == before:  # nothing but zeros is an archive of nothing, too
            raise Unreadable(EMPTY, "an archive without entries")
    except (*_DAMAGE, OSError) as error:
        raise _unreadable(error) from error


def beginning(path: Path, size: int) -> tuple[bytes, int]:
    """The first `size` bytes of what a compressed file holds, and how many bytes of the file they took. Raises
    Unreadable, also where it is an archive."""
    try:
        kind = kind_of(path)
        if kind in (None, "zip", "tar"):
            raise Unreadable(DAMAGED, "not a compressed file")
        with path.open("rb") as file:
            data = _read(_decompressed(file, str(kind)), size)
            if is_tar(data):
                raise Unreadable(DAMAGED, "not a single file")
            return data, min(file.tell(), path.stat().st_size)
    except (*_DAMAGE, OSError) as error:
        raise _unreadable(error) from error


def zip_listing(path: Path, most: int) -> list[tuple[str, int]]:
    """(name, bytes) of the first `most` files in a zip file, from its directory alone; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [(info.filename, info.file_size) for info in archive.infolist()[:most] if not info.is_dir()]
    except (*_DAMAGE, OSError):
        return []


def _of_zip(path: Path, budget: Budget) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            budget.count()
            if info.is_dir():
                continue
            problem = _problem_of_name(info.orig_filename) or _problem_of_size(info.file_size, budget.limits)
            if info.flag_bits & 1:
                problem = (PROTECTED, "needs a password")
            elif stat.S_ISLNK(info.external_attr >> 16):
                problem = (LINK, "a link in an archive")
            elif info.file_size > max(_SMALL, budget.limits.max_ratio * info.compress_size):
                problem = (TOO_LARGE, f"{human_bytes(info.compress_size)} unpack to {human_bytes(info.file_size)}")
            save = functools.partial(_save, functools.partial(archive.open, info), budget)
            yield Entry(_shown(info.filename), problem, save)


def _of_tar(stream: Any, budget: Budget) -> Iterator[Entry]:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps the headers of all it has read
            budget.count()
            if info.isdir():
                continue
            problem = _problem_of_name(info.name) or _problem_of_size(info.size, budget.limits)
            if info.issym() or info.islnk():
                problem = (LINK, "a link in an archive")
            elif not info.isreg():
                problem = (UNSAFE, "a device or a pipe")
            save = functools.partial(_save, functools.partial(_opened, archive, info), budget)
            yield Entry(_shown(info.name), problem, save)


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    return cast(BinaryIO, archive.extractfile(info))


def _of_compressed(path: Path, kind: str, budget: Budget) -> Iterator[Entry]:
    with path.open("rb") as file:
        holds_tar = is_tar(_read(_decompressed(file, kind), tarfile.BLOCKSIZE))
    with path.open("rb") as file:
        stream = _Metered(_decompressed(file, kind), budget.most)
        if holds_tar:
            yield from _of_tar(stream, budget)
        else:
            budget.count()
            yield Entry("", save=functools.partial(_save, lambda: stream, budget))


class _Metered:
    """A decompressed stream that ends a bomb: what is passed over in it has to be unpacked too."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream = stream
        self._most = most
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read1(size)  # type: ignore[attr-defined]  # what came before damage is given, then the error
        self._read += len(data)
        if self._read > self._most:
            raise Bomb(f"unpacks to more than {human_bytes(self._most)}")
        return data


def _save(open_: Callable[[], Any], budget: Budget, to: Path) -> None:
    """Write a stream to a file, within the budget. What goes wrong in reading is Unreadable; in writing, OSError."""
    size = 0
    with to.open("wb") as file:
        try:
            stream = open_()
        except (*_DAMAGE, OSError) as error:
            raise _unreadable(error) from error
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except (*_DAMAGE, OSError) as error:
                raise _unreadable(error) from error
            if not chunk:
                return
            size += len(chunk)
            if problem := _problem_of_size(size, budget.limits):
                raise Unreadable(*problem)
            budget.spend(len(chunk))
            file.write(chunk)


def _unreadable(error: Exception) -> Unreadable:
    if isinstance(error, OSError) and error.errno is not None:  # of the system; those of the decoders have no number
        return Unreadable(UNREADABLE, error.strerror or type(error).__name__)
    return Unreadable(DAMAGED, str(error) or type(error).__name__)


def _decompressed(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "zstd":
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedInputStream(file, "zstd"))
    openers: dict[str, Callable[[BinaryIO], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return cast(BinaryIO, openers[kind](file))


def _read(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, or all there are: a decoder may give fewer at a time."""
    data = io.BytesIO()
    while data.tell() < size and (chunk := stream.read(size - data.tell())):
        data.write(chunk)
    return data.getvalue()


def _problem_of_name(name: str) -> tuple[str, str] | None:
    """A name that leads out of the archive's own folder, on any system."""
    parts = re.split(r"[/\\]", name)
    if "\0" in name or ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return UNSAFE, f"its path leads out of the archive: {name[:_NAME_CHARACTERS]}"
    if len(name) > _NAME_CHARACTERS:
        return UNSAFE, f"its path has {len(name):,} characters"
    return None


def _problem_of_size(size: int, limits: UnpackSettings) -> tuple[str, str] | None:
    if size <= limits.max_file_bytes:
        return None
    return TOO_LARGE, f"more than {human_bytes(limits.max_file_bytes)} (`unpack.max_file_bytes` of the source)"


def _shown(name: str) -> str:
    """A path in an archive without `./`, empty parts, and what cannot be printed."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts) or "(no name)"

"""Documents that are zip files of XML (DOCX, PPTX, EPUB, ODT): their parts, read with an eye on what they may do.

Nothing is written to disk, so no path in them leads anywhere. A part is unpacked as far as its declared size and no
further, and all of them only up to a limit. A part that defines XML entities is refused: no office program writes any,
and they are how a small file is made to fill the memory or to ask for other files.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from llmtune.corpus.readers.reader import DAMAGED, EMPTY, PROTECTED, TOO_LARGE, Unreadable

_MOST_BYTES = 64 << 20  # of the parts that are read, unpacked. War and Peace is 3 MB of text, or 10 MB of Word's XML
# What libraries that take the parts for granted raise where one says what it must not say.
BROKEN = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError)
# What zipfile raises for files that are no whole ones; IndexError for a member without a name.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    OverflowError,
    RuntimeError,  # NotImplementedError too
    ValueError,
)
_MOST_PARTS = 20_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Office files before 2007, and the shell of encrypted ones since
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_ENCRYPTED = 0x1  # bit of a member's flags


def parts_of(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The contents of a zip file's members whose names are `wanted`, and empty ones for the others. Raises
    Unreadable."""
    if (problem := _no_zip(path)) is not None:
        raise problem
    try:
        with zipfile.ZipFile(path) as zipped:
            members = [member for member in zipped.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members if wanted(member.filename))
            if len(members) > _MOST_PARTS or size > _MOST_BYTES:
                found = f"{len(members):,} parts, {size:,} bytes of text"
                raise Unreadable(TOO_LARGE, f"{found}; at most {_MOST_PARTS:,} and {_MOST_BYTES:,} are read")
            return {name.filename: _part(zipped, name) if wanted(name.filename) else b"" for name in members}
    except _DAMAGE as error:
        raise Unreadable(DAMAGED, f"not a whole zip file: {error}") from error


def repacked(parts: dict[str, bytes]) -> BytesIO:
    """A zip file in memory with these parts, for libraries that take nothing else."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in parts.items():
            zipped.writestr(zipfile.ZipInfo(name), data)
    file.seek(0)
    return file


def _no_zip(path: Path) -> Unreadable | None:
    with path.open("rb") as file:
        head = file.read(8)
        if not head:
            return Unreadable(EMPTY, "0 bytes")
        if head == _OLE:
            if _ENCRYPTED_PACKAGE in file.read():
                return Unreadable(PROTECTED, "a password is needed to open it")
            return Unreadable(DAMAGED, "an Office file of before 2007 under a newer name; save it anew")
    return None


def _part(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes. A declared size that is not true ends as a wrong checksum, and takes no memory."""
    if member.flag_bits & _ENCRYPTED:
        raise Unreadable(PROTECTED, f"{member.filename} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable(DAMAGED, f"{member.filename} is packed in a way that documents are not")
    with zipped.open(member) as file:
        data = file.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise Unreadable(DAMAGED, f"{member.filename} is shorter than it says")
    if member.filename.lower().endswith((".xml", ".rels", ".opf")):
        refuse_entities(member.filename, data)
    return data


def refuse_entities(name: str, data: bytes) -> None:
    """Raises Unreadable where a part that is to be parsed as XML defines entities, in UTF-8 or UTF-16."""
    if b"<!ENTITY" in data.replace(b"\0", b""):
        raise Unreadable(DAMAGED, f"{name} defines XML entities")

"""Ways to spoil a document that is a zip file, for the tests of its readers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Spoil = Callable[[Path], None]


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Each member anew as `change(name, bytes)` makes it; None: without it."""
    with zipfile.ZipFile(path) as zipped:
        members = [(name, change(name, zipped.read(name))) for name in zipped.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members:
            if data is not None:
                zipped.writestr(name, data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as zipped:
        largest = max(zipped.infolist(), key=lambda member: member.compress_size)
    for at in range(largest.header_offset + 60, largest.header_offset + 80):
        data[at] ^= 0xFF
    path.write_bytes(data)


def lie(path: Path) -> None:
    """Put in a member that unpacks to 12 MB and says it has ten bytes."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("word/lie.xml", b"<a/>" + b" " * (12 << 20))
    data = bytearray(path.read_bytes())
    size = data.rindex(b"PK\x01\x02") + 24
    data[size : size + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)


def _entities(path: Path) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%b">' % (98 + level, b"&%c;" % (97 + level) * 20) for level in range(12)
    )
    rewrite(
        path,
        lambda name, data: data.replace(b"?>", b"?>" + bomb + b"]>", 1) if name.endswith((".xml", ".opf")) else data,
    )


def _encrypted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 4)
    path.write_bytes(data)


def _many(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("word/big.xml", b"<a/>" + b" " * (64 << 20), compresslevel=1)


SPOILT = [
    pytest.param(lambda path: path.write_bytes(b""), "empty file", id="empty"),
    pytest.param(
        lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 300), "damaged file: not a whole zip", id="no zip"
    ),
    pytest.param(_cut, "damaged file: not a whole zip file", id="truncated"),
    pytest.param(_flip, "damaged file", id="flipped bits"),
    pytest.param(_entities, "damaged file: .* defines XML entities", id="entities"),
    pytest.param(_encrypted, "password-protected file", id="encrypted members"),
    pytest.param(_many, "too large", id="bomb"),
    pytest.param(lambda path: rewrite(path, lambda name, data: data[:99]), "damaged file", id="cut parts"),
    pytest.param(lambda path: rewrite(path, lambda name, data: None), "damaged file", id="no parts"),
    pytest.param(
        lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")),
        "password-protected file: a password",
        id="password",
    ),
    pytest.param(
        lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99), "before 2007", id="old format"
    ),
]

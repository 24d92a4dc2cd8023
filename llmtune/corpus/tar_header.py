"""Headers of tar entries, read with more suspicion than tarfile has."""

from __future__ import annotations

import tarfile

_LONGEST_HEADER = 1 << 20  # bytes of a tar header with a long name: tarfile would read it whole


class Header(tarfile.TarInfo):
    """tarfile takes a damaged header, and the lack of an end mark, for the end of the archive, and says nothing."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Header:
        try:
            header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("ends without the mark of its end: it may be cut off") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged: {error}") from error
        if not (header.isreg() or header.isdir()) and header.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def is_tar(head: bytes) -> bool:
    """By the checksum of the first header; an archive of nothing is a mark of the end."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return True
    except tarfile.HeaderError:
        return False
    return True

"""How much text stands in files that a plan does not read as they are: those elsewhere, archives, compressed ones.

Of compressed files the beginnings are unpacked, of zip files the directory is read; of all others the size is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmtune.corpus.archives import beginning, inner_name, is_archive, is_container, zip_listing
from llmtune.corpus.readers import FORMATS, named_format
from llmtune.corpus.readers.reader import Unreadable
from llmtune.corpus.settings import RECORD_FORMATS, Source
from llmtune.corpus.sources import FileOf, is_alone, is_meant

_SAMPLED_FILES = 48  # compressed ones
_SAMPLED_BYTES = 1_000_000  # unpacked, of each: decoders read ahead by up to 64 KiB
_LISTED = 200_000  # entries of a zip file
_RECORD = 2000  # bytes
_DOCUMENT = 5000  # bytes
_IN_ARCHIVES = 0.8  # characters in a byte of what an archive holds: most of it is text, or it would not be here
_PACKED = 4.0  # times that text packs


@dataclass
class Unopened:
    """What is in such files. bytes: unpacked. formats: those that will be read, as far as names tell. largest: bytes of
    the largest one that is put into the spool to be read."""

    documents: float = 0.0
    characters: float = 0.0
    bytes: int = 0
    largest: int = 0
    formats: set[str] = field(default_factory=set)

    def add(self, name: str, size: float, source: Source, *, alone: bool, lines: float = 0.0) -> None:
        """Count a file of so many bytes. lines: in it, where they are known"""
        self.largest = max(self.largest, round(size))
        found = named_format(inner_name(name))
        wanted = source.format if source.format != "auto" else found
        if alone and wanted is None:
            wanted = "text"
        if wanted is None or (found != wanted and not alone and not source.include and wanted != "text"):
            return
        self.formats.add(wanted)
        records = (lines or size / _RECORD) if wanted in RECORD_FORMATS else 1
        self.documents += max(1.0, records)
        self.characters += size * FORMATS[wanted].text_share
        self.bytes += round(size)

    def add_archive(self, size: float) -> None:
        """Count an archive of so many bytes unpacked, of which nothing is known."""
        self.documents += max(1.0, size / _DOCUMENT)
        self.characters += size * _IN_ARCHIVES
        self.bytes += round(size)


def not_opened(files: list[FileOf], source: Source) -> Unopened:
    """What files hold that are elsewhere or are containers. Of a tar file none of the members is known, so none of
    their formats either."""
    result = Unopened()
    compressed: list[FileOf] = []
    for file in files:
        alone = is_alone(file, source)
        if not file.container:
            result.add(file.name, file.bytes, source, alone=alone)
        elif file.distant is not None:
            _add_distant(result, file, source, alone=alone)
        elif not is_archive(file.name):
            compressed.append(file)
        elif listing := zip_listing(file.path, _LISTED):
            for name, size in listing:
                name = f"{file.name}/{name}"
                if is_meant(name, None, source, container=is_container(name)):
                    result.add(name, size, source, alone=False)
        else:
            result.add_archive(file.bytes * (1.0 if file.name.lower().endswith(".tar") else _PACKED))
    _add_compressed(result, compressed, source)
    return result


def _add_distant(result: Unopened, file: FileOf, source: Source, *, alone: bool) -> None:
    """A container elsewhere; it is put into the spool as it is, too."""
    result.largest = max(result.largest, file.bytes)
    packed = 1.0 if file.name.lower().endswith(".tar") else _PACKED
    if is_archive(file.name):
        result.add_archive(file.bytes * packed)
    else:
        result.add(inner_name(file.name), file.bytes * packed, source, alone=alone)


def _add_compressed(result: Unopened, files: list[FileOf], source: Source) -> None:
    """Compressed files on this disk: a few dozen of them, spread evenly, say how far all are packed."""
    unpacked = packed = lines = 0
    for file in files[:: max(1, math.ceil(len(files) / _SAMPLED_FILES))]:
        try:
            data, taken = beginning(file.path, _SAMPLED_BYTES)
        except Unreadable:
            continue  # counts as the others do; the corpus will name it
        unpacked, packed, lines = unpacked + len(data), packed + taken, lines + data.count(b"\n")
    for file in files:
        size = file.bytes * (unpacked / packed if packed else _PACKED)
        name = inner_name(file.name)
        share = lines / unpacked if unpacked else 0.0
        result.add(name, size, source, alone=is_alone(file, source), lines=size * share)

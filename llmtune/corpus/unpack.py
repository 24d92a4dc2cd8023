"""The files to read that a file of a source stands for: itself, or what is fetched from elsewhere or unpacked.

Readers read files on this disk. What is not one is put into the spool for as long as it is being read: one file at a
time, and with it the archive that it came out of where that was in another archive, or elsewhere.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llmtune.corpus.archives import Bomb, Budget, Entry, entries, inner_name, is_archive, is_container, kind_of
from llmtune.corpus.places import fetch
from llmtune.corpus.readers.reader import DAMAGED, NESTED, UNSAFE, Unreadable
from llmtune.corpus.settings import Source
from llmtune.corpus.sources import FileOf, format_for, is_alone, is_meant
from llmtune.words import visible

_CUT = ("jsonl", "csv")  # of these what came before the damage is whole records
_DEEPEST = 2  # an archive in an archive; what is in one more is likelier meant to harm than to be read


def local_files(file: FileOf, source: Source, spool: Path) -> Iterator[FileOf]:
    """What `file` stands for, as files on this disk, each until the next one is asked for; those that cannot be had
    with the problem. Raises Disturbed when the place it is at cannot be reached, OSError when the disk is full."""
    alone = is_alone(file, source)
    if file.distant is None:
        yield from _unpacked(file, source, spool, alone=alone)
        return
    with _room(spool, file.name) as place:
        try:
            fetch(file.distant, source.storage, place, source.unpack.max_file_bytes)
        except Unreadable as error:
            yield replace(file, problem=(error.reason, error.detail))
            return
        yield from _unpacked(_local(file, place, source, alone=alone), source, spool, alone=alone)


def _unpacked(file: FileOf, source: Source, spool: Path, *, alone: bool) -> Iterator[FileOf]:
    if file.problem is not None or not file.container:
        yield file
        return
    yield from _held(file, source, spool, Budget(source.unpack, file.bytes), depth=1, alone=alone)


def _held(
    file: FileOf, source: Source, spool: Path, budget: Budget, depth: int, *, alone: bool, inside: bool = False
) -> Iterator[FileOf]:
    """What the container `file` holds. depth: of archives, itself included. alone, inside: as in `format_for`."""
    seen: dict[str, int] = {}
    try:
        for entry in entries(file.path, budget):
            if entry.name:
                yield from _entry(entry, file, source, spool, budget, depth, seen)
                continue
            with _room(spool, inner_name(file.path.name)) as place:
                try:
                    entry.save(place)
                except Unreadable as error:
                    cut = _local(file, place, source, alone=alone, inside=inside)
                    if error.reason == DAMAGED and cut.format in _CUT:
                        yield cut
                    raise
                one = _local(file, place, source, alone=alone, inside=inside)
                if not one.container:
                    yield one
                elif depth >= _DEEPEST and kind_of(place) is not None:
                    yield replace(one, problem=(NESTED, f"compressed, in {depth} archives already"))
                else:  # compressed twice; or called a tar and none, which is told as such
                    yield from _held(one, source, spool, budget, depth + 1, alone=alone, inside=inside)
    except Unreadable as error:
        yield replace(file, problem=(error.reason, error.detail))


def _entry(
    entry: Entry, archive: FileOf, source: Source, spool: Path, budget: Budget, depth: int, seen: dict[str, int]
) -> Iterator[FileOf]:
    """What an entry of an archive stands for, if it is meant at all."""
    name = f"{archive.name}/{visible(entry.name)}"
    escapes = entry.problem is not None and entry.problem[0] == UNSAFE  # told, whatever it is called
    if not escapes and not is_meant(name, None, source, container=is_container(name)):
        return
    seen[name] = seen.get(name, 0) + 1
    if seen[name] > 1:  # tar can hold a path twice, and ids are unique
        name = f"{name} ({seen[name]})"
    member = FileOf(Path(entry.name), name, None, 0, entry.problem, where=f"{archive.place}/{entry.name}")
    if member.problem is None and is_archive(entry.name) and depth >= _DEEPEST:
        member = replace(member, problem=(NESTED, f"in {depth} archives already; unpack the outer one"))
    if member.problem is not None:
        yield member
        return
    with _room(spool, entry.name) as place:
        try:
            entry.save(place)
        except Bomb:
            raise
        except Unreadable as error:
            yield replace(member, problem=(error.reason, error.detail))
            return
        one = _local(member, place, source, alone=False, inside=True)
        if one.container:
            yield from _held(one, source, spool, budget, depth + 1, alone=False, inside=True)
        else:
            yield one


def _local(file: FileOf, place: Path, source: Source, *, alone: bool, inside: bool = False) -> FileOf:
    """`file` as it stands in the spool."""
    container = is_container(place.name)
    format = None if container else format_for(place, source, alone=alone, inside=inside)
    return replace(
        file,
        path=place,
        format=format,
        bytes=place.stat().st_size,
        container=container,
        distant=None,
        where=file.place,
    )


@contextmanager
def _room(spool: Path, name: str) -> Iterator[Path]:
    """A path in an empty folder of the spool, with the last part of a name (readers go by suffixes)."""
    spool.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=spool))
    try:
        last = re.split(r"[/\\]", name)[-1].replace("\0", "")
        short = last.encode("utf-8", "replace")[-200:].decode("utf-8", "ignore")  # file systems count bytes
        yield folder / (short if short not in ("", ".", "..") else "file")
    finally:
        shutil.rmtree(folder, ignore_errors=True)

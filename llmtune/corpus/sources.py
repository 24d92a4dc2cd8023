"""Which files a source means, under which names, and the fingerprint of their contents."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from llmtune.artifacts import RUN_LOCK, STORE
from llmtune.corpus.archives import is_container
from llmtune.corpus.drops import LINK
from llmtune.corpus.globs import matches, matches_whole, split_glob
from llmtune.corpus.places import Distant, listed, shown, split_url
from llmtune.corpus.readers import format_of, named_format
from llmtune.corpus.readers.reader import UNREADABLE, Piece
from llmtune.corpus.settings import Source
from llmtune.errors import LlmtuneError
from llmtune.files import sha256_file
from llmtune.models.cache import digests
from llmtune.words import visible

_NO_FILE = (UNREADABLE, "a device, a socket or a pipe")


@dataclass(frozen=True)
class FileOf:
    """A file of a source, or a folder in it that cannot be looked into.

    name: its path in the source, for ids. format: that reads it; None: no reader takes it. problem: (reason, detail)
    why it is not to be read. container: it is compressed or an archive; `unpack.local_files` gives what it holds.
    distant: where it is, if not on this disk (`path` is then its name alone). where: how to name it to a person, if not
    by its path. piece: what it is of the file, if not all (pieces.py); its bytes are then counted
    """

    path: Path
    name: str
    format: str | None
    bytes: int
    problem: tuple[str, str] | None = None
    container: bool = False
    distant: Distant | None = None
    where: str = ""
    piece: Piece | None = None

    @property
    def place(self) -> str:
        """What a person knows the file by."""
        return self.where or str(self.path)


def id_of(source_name: str, file: FileOf, part: str) -> str:
    """The name of a document: `source/path/in/it#part`."""
    joint = "/" if file.name and part and not part.startswith("#") else ""
    return f"{source_name}/{file.name}{joint}{part}"


def source_names(sources: Sequence[Source]) -> list[str]:
    """A name for each source: its own, or that of its file or folder; numbered where two would be alike."""
    names: list[str] = []
    for source in sources:
        base = source.name or _natural_name(source)
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def files_of(source: Source) -> list[FileOf]:
    """The files a source means, sorted by name. Hidden files and folders (`.git`) are passed over, and folders of runs;
    links to folders are not followed, nor those to files that stand elsewhere. Raises LlmtuneError when the place does
    not exist, or nothing in it is meant."""
    if source.path is None:
        from llmtune.corpus.readers.python_docs import library

        return [FileOf(library(), "", source.format, 0)]
    there, meant = _distant_files(source.path, source) if isinstance(source.path, str) else _files(source.path, source)
    if not meant:
        raise LlmtuneError(
            f"no file matches ({there} files are there; path, include and exclude leave none)",
            where=visible(str(source.path)),
            fix="look at the globs of this source; hidden files are passed over",
        )
    return sorted(meant, key=lambda file: file.name)


def _files(place: Path, source: Source) -> tuple[int, list[FileOf]]:
    """How many files are at a place on this disk, and those that are meant."""
    top, pattern = split_glob(place, _is_there)
    if not _is_there(top):
        raise _missing(top)
    found = list(_found(top))
    meant = [
        _file(path, name, source, problem, alone=path == top)
        for path, name, problem in found
        if path == top
        or is_meant(name, pattern, source, container=is_container(name))
        or (_is_folder(path) and not _is_left_out(name, source))
    ]
    return len(found), meant


def _distant_files(url: str, source: Source) -> tuple[int, list[FileOf]]:
    """How many files are at a URL, and those that are meant. Their formats are known when they are here."""
    listing = listed(url, source.storage)
    meant = [
        FileOf(
            Path(file.name),
            visible(file.name),
            None,
            file.bytes,
            container=is_container(file.name),
            distant=file,
            where=visible(shown(file.url)),
        )
        for file in listing.files
        if listing.alone or is_meant(file.name, listing.pattern, source, container=is_container(file.name))
    ]
    return len(listing.files), meant


def identity_of(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """For each source, its settings with the path replaced by names and contents of the files it means: by digests of
    those on this disk, by size and checksum of those in a store. How a store is opened has no part in it."""
    identities = []
    for source, name in zip(sources, source_names(sources), strict=True):
        identity = source.model_dump(mode="json", exclude={"path", "name", "storage"}) | {"name": name}
        files = files_of(source)
        contents = contents_of(source, files)
        by_name = {file.name: content for file, content in zip(files, contents, strict=True)}
        identity |= {"contents": contents[0] if source.path is None else by_name, "place": kind_of_place(source, files)}
        identities.append(identity)
    return identities


def kind_of_place(source: Source, files: Sequence[FileOf]) -> str:
    """How a source's path points at its files, which has a part in what is read of compressed ones (`format_for`)."""
    if source.path is None:
        return "none"
    if _has_glob(source.path):
        return "glob"
    return "file" if len(files) == 1 and is_alone(files[0], source) else "folder"


def contents_of(source: Source, files: Sequence[FileOf]) -> list[Any]:
    """What stands for the contents of each of a source's files; of python-docs, its version."""
    if source.path is None:
        from llmtune.corpus.readers.python_docs import version

        return [version()]
    if isinstance(source.path, str):
        return [_stamp(file) for file in files]
    with digests(split_glob(source.path, _is_there)[0]) as digest:
        return [content_of(file, digest) for file in files]


def content_of(file: FileOf, digest: Callable[[Path], str] = sha256_file) -> list[str | None]:
    """What stands for the contents of a file on this disk."""
    return [file.format, _content(file, digest)]


def _stamp(file: FileOf) -> list[str | int | None]:
    return [file.bytes, file.distant.stamp if file.distant else None]


def _content(file: FileOf, digest: Callable[[Path], str]) -> str:
    if file.problem is not None:
        return ": ".join(file.problem)
    try:
        return digest(file.path)
    except OSError as error:  # the intake will name it and skip it, or stop, as the recipe says
        return f"{UNREADABLE}: {error.strerror}"


def _found(top: Path) -> Iterator[tuple[Path, str, tuple[str, str] | None]]:
    """(path, name in the source, problem) of every file below `top` (or the file itself), and of the folders that
    cannot be looked into."""
    if not top.is_dir():
        yield top, top.name, None if top.is_file() else _NO_FILE
        return
    closed: list[OSError] = []
    for root, folders, names in os.walk(top, onerror=closed.append):
        if STORE in folders:  # the others are runs, which are no documents: what stands in them grows
            folders[:] = [folder for folder in folders if not os.path.isfile(os.path.join(root, folder, RUN_LOCK))]
        for name in [*(folder for folder in folders if os.path.islink(os.path.join(root, folder))), *names]:
            path = Path(root, name)
            problem = _problem_of(path, top)
            if problem != _NO_FILE or named_format(name):  # sockets come and go, and nobody would read them
                yield path, path.relative_to(top).as_posix(), problem
    for error in closed:
        path = Path(error.filename)
        if path == top:
            raise LlmtuneError(f"the folder cannot be read: {error.strerror}", where=visible(str(top)))
        yield path, path.relative_to(top).as_posix(), (UNREADABLE, f"folder: {error.strerror}")


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one, as far as that can be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _problem_of(path: Path, top: Path) -> tuple[str, str] | None:
    try:
        mode = path.lstat().st_mode
    except OSError as error:  # in a folder that may be listed, but not entered
        return UNREADABLE, error.strerror or type(error).__name__
    if not stat.S_ISLNK(mode):
        return None if stat.S_ISREG(mode) else _NO_FILE
    try:
        if not path.exists():
            return UNREADABLE, "the link leads nowhere"
        outside = not path.resolve().is_relative_to(top.resolve())
    except OSError as error:
        return UNREADABLE, f"the link: {error.strerror}"
    if outside:
        return LINK, "name what it leads to as a source of its own"
    if path.is_dir():
        return LINK, "a link to a folder of this source"
    return None if path.is_file() else _NO_FILE


def _file(path: Path, name: str, source: Source, problem: tuple[str, str] | None, *, alone: bool) -> FileOf:
    try:
        size = path.stat().st_size if problem is None else 0
    except OSError as error:
        size, problem = 0, (UNREADABLE, error.strerror or type(error).__name__)
    container = is_container(path.name) and problem is None
    format = None if container or problem is not None else format_for(path, source, alone=alone)
    return FileOf(path, visible(name), format, size, problem, container)


def _natural_name(source: Source) -> str:
    if source.path is None:
        return source.format
    if isinstance(source.path, str):
        top = Path(unquote(shown(split_url(source.path)[0]).partition("://")[2]))
        is_folder = source.path.endswith("/")
    else:
        top, _ = split_glob(source.path, _is_there)
        is_folder = top.is_dir()
    name = top.stem if top.suffix and not is_folder else top.name
    return visible(name.strip()) or "documents"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise LlmtuneError(
            f"the source cannot be reached: {error.strerror}",
            where=visible(str(path)),
            fix="give yourself the right to read it and the folders above it",
        ) from error


def is_meant(name: str, pattern: str | None, source: Source, *, container: bool) -> bool:
    """Whether a source means a file of this name: by the glob of its path, include and exclude; hidden files never. Of
    a container, as of a folder, `include` is about what it holds."""
    if pattern is not None and not matches_whole(name, pattern):
        return False
    if not container and source.include and not any(matches(name, glob) for glob in source.include):
        return False
    return not _is_left_out(name, source)


def _is_left_out(name: str, source: Source) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or any(matches(name, glob) for glob in source.exclude)


def is_alone(file: FileOf, source: Source) -> bool:
    """Whether the source is this one file."""
    return source.path == (file.distant.url if file.distant is not None else file.path)


def format_for(path: Path, source: Source, *, alone: bool, inside: bool = False) -> str | None:
    """auto goes by the file (`format_of`); a named format reads what has its suffixes, and whatever the user pointed at
    by a file's own path or a glob. `text` reads anything. inside: it stood in an archive, which no glob reaches into"""
    if source.format == "auto":
        return format_of(path) or ("text" if alone else None)
    pointed_at = alone or source.include or (_has_glob(source.path) and not inside)
    if pointed_at or source.format == "text":
        return source.format
    return source.format if format_of(path) == source.format else None


def _has_glob(path: Path | str | None) -> bool:
    if isinstance(path, str):
        return split_url(path)[1] is not None
    return path is not None and split_glob(path, _is_there)[1] is not None


def _missing(path: Path) -> LlmtuneError:
    """The place does not exist: say from where on, and what there is instead."""
    parent, wanted = path.parent, path.name
    while not parent.exists() and parent != parent.parent:
        parent, wanted = parent.parent, parent.name
    try:
        there = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    except OSError:  # it may be entered, but not listed
        return LlmtuneError("source does not exist", where=visible(str(path)), fix="look at the path of this source")
    near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.5)
    if near:
        fix = f"did you mean {parent / near[0]}?"
    else:
        shown = ", ".join(there[:8]) + (" …" if len(there) > 8 else "")
        fix = f"{parent} holds: {shown}" if shown else f"{parent} is empty"
    what = f"source does not exist ('{wanted}' is not in {parent})"
    return LlmtuneError(visible(what), where=visible(str(path)), fix=visible(fix))

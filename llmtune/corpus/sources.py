"""Which files a source means, under which names, and the fingerprint of their contents."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.corpus.drops import LINK
from llmtune.corpus.readers import format_of
from llmtune.corpus.readers.reader import UNREADABLE
from llmtune.corpus.settings import Source
from llmtune.corpus.text import printable
from llmtune.errors import LlmtuneError
from llmtune.models.cache import digests

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FileOf:
    """A file of a source, or a folder in it that cannot be looked into.

    name: its path in the source, for ids. format: that reads it; None: no reader takes it. problem: (reason, detail)
    why it is not to be read
    """

    path: Path
    name: str
    format: str | None
    bytes: int
    problem: tuple[str, str] | None = None


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
    """The files a source means, sorted by name. Hidden files and folders (`.git`) are passed over; links to folders
    are not followed, nor those to files that stand elsewhere. Raises LlmtuneError when the place does not exist, or
    nothing in it is meant."""
    if source.path is None:
        from llmtune.corpus.readers.python_docs import library

        return [FileOf(library(), "", source.format, 0)]
    top, pattern = _split_glob(source.path)
    if not _is_there(top):
        raise _missing(top)
    found = list(_found(top))
    meant = [
        _file(path, name, source, problem, alone=path == top)
        for path, name, problem in found
        if _is_meant(name, pattern, source, alone=path == top) or (path.is_dir() and not _is_left_out(name, source))
    ]
    if not meant:
        raise LlmtuneError(
            f"no file matches ({len(found)} files are there; path, include and exclude leave none)",
            where=printable(str(source.path)),
            fix="look at the globs of this source; hidden files are passed over",
        )
    return sorted(meant, key=lambda file: file.name)


def identity_of(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """For each source, its settings with the path replaced by names and contents of the files it means."""
    identities = []
    for source, name in zip(sources, source_names(sources), strict=True):
        identity = source.model_dump(mode="json", exclude={"path", "name"}) | {"name": name}
        if source.path is None:
            from llmtune.corpus.readers.python_docs import version

            identity["contents"] = version()
        else:
            with digests(_split_glob(source.path)[0]) as digest:
                identity["contents"] = {file.name: [file.format, _content(file, digest)] for file in files_of(source)}
        identities.append(identity)
    return identities


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
        yield top, top.name, None
        return
    closed: list[OSError] = []
    for root, folders, names in os.walk(top, onerror=closed.append):
        for name in [*(folder for folder in folders if Path(root, folder).is_symlink()), *names]:
            path = Path(root, name)
            if path.is_symlink() or path.is_file():
                yield path, path.relative_to(top).as_posix(), _problem_of_link(path, top)
    for error in closed:
        path = Path(error.filename)
        if path == top:
            raise LlmtuneError(f"the folder cannot be read: {error.strerror}", where=printable(str(top)))
        yield path, path.relative_to(top).as_posix(), (UNREADABLE, f"folder: {error.strerror}")


def _problem_of_link(path: Path, top: Path) -> tuple[str, str] | None:
    if not path.is_symlink():
        return None
    try:
        if not path.exists():
            return UNREADABLE, "the link leads nowhere"
        outside = not path.resolve().is_relative_to(top.resolve())
    except OSError as error:
        return UNREADABLE, f"the link: {error.strerror}"
    if outside:
        return LINK, "name what it leads to as a source of its own"
    return (LINK, "a link to a folder of this source") if path.is_dir() else None


def _file(path: Path, name: str, source: Source, problem: tuple[str, str] | None, *, alone: bool) -> FileOf:
    try:
        size = path.stat().st_size if problem is None else 0
    except OSError as error:
        size, problem = 0, (UNREADABLE, error.strerror or type(error).__name__)
    return FileOf(path, printable(name), _format_for(path, source, alone=alone), size, problem)


def _natural_name(source: Source) -> str:
    if source.path is None:
        return source.format
    top, _ = _split_glob(source.path)
    name = top.stem if top.suffix and not top.is_dir() else top.name
    return printable(name.strip()) or "documents"


def _split_glob(path: Path) -> tuple[Path, str | None]:
    """The part of a path before the first glob character, and the glob below it, if any. A name that exists wins."""
    if _is_there(path) or not _MAGIC.search(str(path)):
        return path, None
    parts = path.parts
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    return Path(*parts[:first]), "/".join(parts[first:])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise LlmtuneError(
            f"the source cannot be reached: {error.strerror}",
            where=printable(str(path)),
            fix="give yourself the right to read it and the folders above it",
        ) from error


def _is_meant(name: str, pattern: str | None, source: Source, *, alone: bool) -> bool:
    if alone:
        return True
    if pattern is not None and not _matches_glob(name, pattern):
        return False
    if source.include and not any(_matches(name, glob) for glob in source.include):
        return False
    return not _is_left_out(name, source)


def _is_left_out(name: str, source: Source) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or any(_matches(name, glob) for glob in source.exclude)


def _format_for(path: Path, source: Source, *, alone: bool) -> str | None:
    """auto goes by the suffix; a named format reads what has its suffixes, and whatever the user pointed at by a file's
    own path or a glob. `text` reads anything."""
    if source.format == "auto":
        return format_of(path) or ("text" if alone else None)
    if alone or source.format == "text" or source.include or _is_glob(source.path):
        return source.format
    return source.format if format_of(path) == source.format else None


def _is_glob(path: Path | None) -> bool:
    return path is not None and _split_glob(path)[1] is not None


def _matches(name: str, glob: str) -> bool:
    """A glob without a slash is compared with the file's name too; a folder's name stands for all below it."""
    glob = glob.removeprefix("./").rstrip("/")
    return (
        _matches_glob(name, glob)
        or _matches_glob(name, f"{glob}/**")
        or ("/" not in glob and any(fnmatch.fnmatchcase(part, glob) for part in name.split("/")))
    )


def _matches_glob(name: str, glob: str) -> bool:
    """Shell globbing: `*` stays within a folder, `**` crosses them."""
    return _match_parts(name.split("/"), glob.split("/"))


def _match_parts(names: list[str], globs: list[str]) -> bool:
    if not globs:
        return not names
    if globs[0] == "**":
        return any(_match_parts(names[skip:], globs[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], globs[0]) and _match_parts(names[1:], globs[1:])


def _missing(path: Path) -> LlmtuneError:
    """The place does not exist: say from where on, and what there is instead."""
    parent, wanted = path.parent, path.name
    while not parent.exists() and parent != parent.parent:
        parent, wanted = parent.parent, parent.name
    there = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.5)
    if near:
        fix = f"did you mean {parent / near[0]}?"
    else:
        shown = ", ".join(there[:8]) + (" …" if len(there) > 8 else "")
        fix = f"{parent} holds: {shown}" if shown else f"{parent} is empty"
    what = f"source does not exist ('{wanted}' is not in {parent})"
    return LlmtuneError(printable(what), where=printable(str(path)), fix=printable(fix))

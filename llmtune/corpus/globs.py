"""Globs on paths written with `/`: those of files, of members of archives, and of objects in a store."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")


def split_glob(path: Path, is_there: Callable[[Path], bool] = Path.exists) -> tuple[Path, str | None]:
    """The part of a path before the first glob, and the glob below it, if any. A name that exists wins."""
    if is_there(path):
        return path, None
    parts = path.parts
    for index, part in enumerate(parts):
        if _MAGIC.search(part) and not is_there(Path(*parts[: index + 1])):
            return Path(*parts[:index]), "/".join(parts[index:])
    return path, None


def matches(name: str, glob: str) -> bool:
    """A glob without a slash is compared with the file's name too; a folder's name stands for all below it."""
    glob = glob.removeprefix("./").rstrip("/")
    return (
        matches_whole(name, glob)
        or matches_whole(name, f"{glob}/**")
        or ("/" not in glob and any(fnmatch.fnmatchcase(part, glob) for part in name.split("/")))
    )


def matches_whole(name: str, glob: str) -> bool:
    """Shell globbing: `*` stays within a folder, `**` crosses them."""
    return _match_parts(name.split("/"), glob.split("/"))


def _match_parts(names: list[str], globs: list[str]) -> bool:
    if not globs:
        return not names
    if globs[0] == "**":
        return any(_match_parts(names[skip:], globs[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], globs[0]) and _match_parts(names[1:], globs[1:])

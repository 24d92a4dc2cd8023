"""Globs on paths written with `/`: those of files, of members of archives, and of objects in a store."""

from __future__ import annotations

import fnmatch


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

"""Files that are not on this disk: listed and fetched through fsspec, with retries, and errors a person can use.

    s3://bucket/path   gs://bucket/path   http(s)://host/path   hf://datasets/organisation/name[@revision]/path

A data set of the Hugging Face hub is a folder of files like any other: no script in it is ever run. Nothing that is
fetched is kept beyond the reading of it, and nothing of what opens a store is written down.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from llmtune.corpus.place_settings import PROTOCOLS
from llmtune.corpus.readers.reader import TOO_LARGE, UNREADABLE, Unreadable
from llmtune.errors import Disturbed, LlmtuneError
from llmtune.extras import need
from llmtune.files import is_disk_full
from llmtune.words import human_bytes

_WAITS = (1.0, 4.0, 15.0)  # seconds before trying again; the stores' own packages try again too
_NO_ANSWER = {"sock_connect": 30, "sock_read": 60}  # seconds; aiohttp's own limit is 5 minutes for a whole file
# How stores say what a file holds, the surest first, and when it changed.
_CHECKSUMS = ("sha256", "md5Hash", "crc32c", "Content-MD5", "blob_id", "ETag", "etag", "Digest")
_TIMES = ("LastModified", "updated", "Last-Modified", "last_modified", "mtime", "created")
_HUB_CARD = ("README.md", "dataset_infos.json")  # about the data, not the data
_T = TypeVar("_T")


@dataclass(frozen=True)
class Distant:
    """A file in a store. name: its path below the place that was listed. bytes: 0 where the
    store does not say. stamp: changes with its content, as far as the store can tell"""

    url: str
    name: str
    bytes: int
    stamp: str


@dataclass(frozen=True)
class Listing:
    """The files at a place. alone: the place is one file. pattern: the glob that the recipe has below it."""

    files: list[Distant]
    alone: bool
    pattern: str | None


class _Refused(LlmtuneError):
    """What trying again does not mend: it is not there, or not for us."""


def split_url(url: str) -> tuple[str, str | None]:
    """The part of a URL before the first glob character, and the glob below it, if any. A `?` is none: over HTTP it
    begins the query."""
    start, _, path = url.partition("://")
    parts = path.split("/")
    first = next((index for index, part in enumerate(parts) if index and re.search(r"[*\[]", part)), None)
    if first is None:
        return url, None
    return f"{start}://{'/'.join(parts[:first])}/", "/".join(parts[first:])


def shown(url: str) -> str:
    """A URL without its query, which can hold a signature."""
    return url.partition("?")[0]


def listed(url: str, storage: Mapping[str, Any]) -> Listing:
    """The files at a URL: of a folder all below it. Raises LlmtuneError where it is not there or not to be read,
    Disturbed where it cannot be reached, MissingExtra."""
    top, pattern = split_url(url)
    store = _store(url, storage)
    store.invalidate_cache()
    key = store._strip_protocol(top)
    over_http = url.startswith("http")
    if over_http and not top.endswith("/"):
        return Listing([_distant(top, _last(top), _tried(lambda: store.info(top), url))], True, None)
    info = {"type": "directory"} if over_http else _tried(lambda: store.info(key), url)
    if info["type"] != "directory":
        return Listing([_distant(top, _last(top), info)], True, None)
    depth = len(key.strip("/").split("/"))
    found: dict[str, Any] = _tried(lambda: store.find(key, detail=True), url)
    files = []
    for path, about in sorted(found.items()):
        name = "/".join(path.strip("/").split("/")[depth:])
        if over_http:
            if name and "?" not in path:  # the links of a listing that sort it have a query
                files.append(_distant(path, unquote(name), _tried(functools.partial(store.info, path), url)))
        elif about["type"] == "file" and not (url.startswith("hf://datasets/") and name in _HUB_CARD):
            files.append(_distant(f"{url.partition('://')[0]}://{path.lstrip('/')}", name, about))
    return Listing(files, False, pattern)


def fetch(file: Distant, storage: Mapping[str, Any], to: Path, most: int) -> None:
    """Write a file to the path `to`. Raises Unreadable for what is wrong with this one file (gone, closed, larger than
    `most` bytes), Disturbed where the store cannot be reached: a corpus without it would be another corpus."""
    from fsspec.callbacks import Callback

    class Limit(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            self.value += inc
            if self.value > most:
                raise too_large

    too_large = Unreadable(TOO_LARGE, f"more than {human_bytes(most)} (`unpack.max_file_bytes` of the source)")
    if file.bytes > most:
        raise too_large

    def get() -> None:
        _store(file.url, storage).get_file(key, str(to), callback=Limit())
        size = to.stat().st_size
        if file.bytes and size != file.bytes:
            raise EOFError(f"{size:,} bytes came of {file.bytes:,}")

    key = _store(file.url, storage)._strip_protocol(file.url)
    try:
        _tried(get, file.url)
    except _Refused as error:
        raise Unreadable(UNREADABLE, error.what) from error


def _store(url: str, storage: Mapping[str, Any]) -> Any:
    """The file system of fsspec for a URL. Raises MissingExtra."""
    protocol = url.partition("://")[0]
    need(PROTOCOLS[protocol], f"reading {protocol}://")
    import fsspec

    options = _with_secrets(storage)
    if PROTOCOLS[protocol] == "aiohttp":
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, **_NO_ANSWER)
        proxied = {"timeout": timeout, "trust_env": True}  # HTTPS_PROXY
        options["client_kwargs"] = proxied | options.get("client_kwargs", {})
    try:
        return fsspec.filesystem(protocol, **options)
    except Exception as error:  # whatever the store's package makes of options it does not know
        raise LlmtuneError(
            f"the store does not take these options: {_words(error)}", where=shown(url), fix="look at `storage`"
        ) from error


def _with_secrets(storage: Mapping[str, Any]) -> dict[str, Any]:
    """The options with what is named by environment variables."""
    options: dict[str, Any] = {}
    for name, value in storage.items():
        if isinstance(value, Mapping):
            value = _with_secrets(value)
        elif isinstance(value, str) and value.startswith("$"):
            found = os.environ.get(value[1:])
            if found is None:
                raise LlmtuneError(f"the environment variable {value[1:]} is not set", where=f"storage.{name}")
            value = found
        options[name] = value
    return options


def _distant(url: str, name: str, info: Mapping[str, Any]) -> Distant:
    said = next((f"{key} {info[key]}" for key in (*_CHECKSUMS, *_TIMES) if info.get(key)), "")
    return Distant(url, name, info.get("size") or 0, said)


def _last(url: str) -> str:
    return unquote(shown(url).rstrip("/").rpartition("/")[2])


def _tried(act: Callable[[], _T], url: str) -> _T:
    """The result of `act`, tried again while the place cannot be reached."""
    for wait in (*_WAITS, None):
        try:
            return act()
        except (LlmtuneError, Unreadable):
            raise
        except Exception as error:  # each store's package has its own
            if is_disk_full(error):
                raise
            told = _told(error, url)
            if wait is None or isinstance(told, _Refused):
                raise told from error
        time.sleep(wait)
    raise AssertionError("unreachable")


def _told(error: Exception, url: str) -> LlmtuneError:
    """What went wrong with a store, for a person."""
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec says "not found" of whatever HTTP came to
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    kind = type(error).__name__
    if isinstance(error, PermissionError) or status in (401, 403) or "Credential" in kind:
        return _Refused(f"no access ({_words(error)})", where=shown(url), fix=_access(url))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        hub = "a data set is at hf://datasets/organisation/name; a private or gated one needs HF_TOKEN"
        fix = hub if url.startswith("hf:") else "look at the address, and at `storage` (endpoint, region)"
        return _Refused("there is nothing at this address", where=shown(url), fix=fix)
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return _Refused(f"refused with status {status}", where=shown(url), fix="look at the address")
    return Disturbed(
        f"cannot be reached: {_words(error)}",
        where=shown(url),
        fix="is this machine online, and the endpoint in `storage` right? The same command goes on",
    )


def _access(url: str) -> str:
    ways = {
        "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret; a public bucket: `storage: {anon: true}`",
        "gs": "set GOOGLE_APPLICATION_CREDENTIALS; a public bucket: `storage: {token: anon}`",
        "hf": "set HF_TOKEN, and accept the terms of a gated data set on its page",
    }
    protocol = url.partition("://")[0].replace("gcs", "gs")
    return ways.get(protocol, "`storage: {headers: {Authorization: $MY_TOKEN}}` sends a token")


def _words(error: Exception) -> str:
    """The first line of an error, without addresses' queries, which can hold a signature."""
    first = next(iter(str(error).splitlines()), "")
    return re.sub(r"\?[^\s'\"]*", "", f"{type(error).__name__}: {first}".rstrip(": "))[:300]

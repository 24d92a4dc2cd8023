"""A Hugging Face hub on this machine: the few questions that huggingface_hub asks, answered from folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class FakeHub:
    """repositories: id → {revision: folder}. asked: every path asked for. token: needed from callers when set.
    broken: the status that every answer has when set."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Path]] = {}
        self.asked: list[str] = []
        self.token: str | None = None
        self.broken: int | None = None
        self.url = ""

    def commit(self, repository: str, revision: str) -> str:
        """The commit of a revision: of its contents, as in git."""
        folder = self.repositories[repository][revision]
        return _sha1(b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir())))

    def find(self, repository: str, revision: str) -> tuple[str, Path] | None:
        """(commit, folder) of a branch or commit."""
        for name, folder in self.repositories.get(repository, {}).items():
            commit = self.commit(repository, name)
            if revision in (name, commit):
                return commit, folder
        return None


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.asked.append(path)
            if hub.broken:
                self.answer(hub.broken, {"error": "later"})
            elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer(401, {"error": "Invalid credentials"}, error="RepoNotFound")
            elif path.startswith("/api/models/"):
                self.api(path.removeprefix("/api/models/").split("/"))
            elif "/resolve/" in path:
                repository, _, rest = path[1:].partition("/resolve/")
                revision, _, name = rest.partition("/")
                self.file(repository, revision, name)
            else:
                self.answer(404, {}, error="RepoNotFound")

        do_HEAD = do_GET

        def api(self, parts: list[str]) -> None:
            repository, rest = "/".join(parts[:2]), parts[2:]
            revision = rest[1] if len(rest) > 1 else "main"
            if repository not in hub.repositories:
                return self.answer(404, {"error": "Repository not found"}, error="RepoNotFound")
            found = hub.find(repository, revision)
            if found is None:
                return self.answer(404, {"error": "Invalid rev"}, error="RevisionNotFound")
            commit, folder = found
            files = sorted(path for path in folder.iterdir() if path.is_file())
            if rest[:1] == ["tree"]:
                return self.answer(200, [entry(path) for path in files])
            siblings = [{"rfilename": path.name} for path in files]
            return self.answer(
                200, {"id": repository, "sha": commit, "siblings": siblings, "private": False, "tags": []}
            )

        def file(self, repository: str, revision: str, name: str) -> None:
            found = hub.find(repository, revision)
            if found is None or not (found[1] / name).is_file():
                return self.answer(404, {}, error="EntryNotFound" if found else "RepoNotFound")
            data, status = (found[1] / name).read_bytes(), 200
            headers = {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": found[0]}
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                stop = min(int(last) + 1, len(data)) if last else len(data)
                headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
                data, status = data[int(first) : stop], 206
            return self.send(status, data, headers)

        def answer(self, status: int, value: Any, error: str | None = None) -> None:
            headers = {"Content-Type": "application/json"}
            self.send(status, json.dumps(value).encode(), headers | ({"X-Error-Code": error} if error else {}))

        def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Silent."""

    def entry(path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        return {"type": "file", "path": path.name, "size": len(data), "oid": _sha1(data)}

    return Handler

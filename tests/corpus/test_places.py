"""Files that are not on this disk: listed, fetched one at a time, tried again, and no secret put down."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from llmtune.corpus import places
from llmtune.corpus.estimate import estimate
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import files_of, identity_of, source_names
from llmtune.errors import Disturbed, LlmtuneError, MissingExtra
from llmtune.stages.corpus import CorpusStage
from tests.corpus.conftest import Build, random_text
from tests.corpus.test_archives import tarred

TEXTS = {name: random_text(60, random.Random(name)) for name in ("a.md", "b.txt", "sub/c.md", "sub/deep/d.md")}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def bucket() -> Iterator[Any]:
    """A store in memory with the texts below `memory://bucket/manual`."""
    store = fsspec.filesystem("memory")
    for name, text in TEXTS.items():
        store.pipe(f"/bucket/manual/{name}", text.encode())
    store.pipe("/bucket/other/x.md", b"other")
    yield store
    store.rm("/bucket", recursive=True)


class Server(ThreadingHTTPServer):
    """Files over HTTP with checksums; `/folder/` lists them, and its `b.txt` comes without a size if it is large.
    failures: answers with 503 before the first good one. asked: (method, path). cut: half of a file is sent"""

    files: dict[str, bytes]
    failures: int
    asked: list[tuple[str, str]]
    cut: bool

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.failures, self.asked, self.cut = {}, 0, [], False
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.server.asked.append((self.command, self.path))
        path = self.path.partition("?")[0]
        if path == "/closed" and self.headers.get("Authorization") != "Bearer let-me-in":
            return self.send_error(403)
        if self.server.failures > 0:
            self.server.failures -= 1
            return self.send_error(503)
        if path == "/folder/":
            links = "".join(f'<a href="{name[8:]}">x</a>' for name in self.server.files if name.startswith("/folder/"))
            data, kind = f'<html><a href="?C=N;O=D">sort</a><a href="/">up</a>{links}</html>'.encode(), "text/html"
        elif path in self.server.files:
            data, kind = self.server.files[path], "application/octet-stream"
        else:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')  # noqa: S324
        if path != "/folder/b.txt" or len(data) < 100_000:  # a server need not say how much it will send
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if self.server.cut else data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_urls_stay_as_they_are_and_paths_do_not(tmp_path: Path) -> None:
    def path_of(path: str) -> Any:
        return Source.model_validate({"path": path}, context={"folder": tmp_path}).path

    assert path_of("s3://bucket/manual/**/*.html") == "s3://bucket/manual/**/*.html"
    assert path_of("https://host/a/../b.zip?download=1") == "https://host/a/../b.zip?download=1"
    assert path_of("manual/*.md") == tmp_path / "manual" / "*.md"
    assert path_of("~/manual") == Path.home() / "manual"
    names = source_names([Source(path=url) for url in ("s3://bucket/manual/**/*.html", "https://h/d.tar.zst?x=1")])
    assert names == ["manual", "d.tar"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "ftp://host/x"}, "ftp:// is not read; known are s3://, gs://"),
        ({"path": "file:///etc"}, "file:// is not read"),
        ({"path": "hf://org/name"}, "hf://datasets/organisation/name"),
        ({"path": "https://me:secret@host/x"}, "a password in a URL"),
        ({"path": "texts", "storage": {"anon": True}}, "'storage' is for URLs"),
        ({"path": "s3://b/x", "storage": {"secret": "abc"}}, r"write `secret: \$MY_SECRET`"),
        ({"path": "s3://b/x", "storage": {"client_kwargs": {"aws_session_token": "abc"}}}, "MY_AWS_SESSION_TOKEN"),
    ],
)
def test_what_cannot_be_read_or_would_be_told_is_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(source)


def test_folders_and_globs_in_a_store(build: Build, bucket: Any) -> None:
    def names(path: str, **settings: Any) -> list[str]:
        return [file.name for file in files_of(Source(path=path, **settings))]

    assert names("memory://bucket/manual") == sorted(TEXTS)
    assert names("memory://bucket/manual/**/*.md") == ["a.md", "sub/c.md", "sub/deep/d.md"]
    assert names("memory://bucket/manual/*.md") == ["a.md"]
    assert names("memory://bucket/manual/sub/c.md") == ["c.md"]
    assert names("memory://bucket/manual", include=["*.md"], exclude=["deep"]) == ["a.md", "sub/c.md"]
    with pytest.raises(LlmtuneError, match="there is nothing at this address"):
        names("memory://bucket/none")
    with pytest.raises(LlmtuneError, match=r"no file matches \(4 files"):
        names("memory://bucket/manual/*.pdf")
    built = build([{"path": "memory://bucket/manual", "licence": "MIT"}])
    assert {document.id: document.text for document in built.documents} == {
        f"manual/{name}": text for name, text in TEXTS.items()
    }


def test_archives_in_a_store_and_nothing_is_left(build: Build, bucket: Any, tmp_path: Path) -> None:
    bucket.pipe("/bucket/packed/a.tar.gz", gzip.compress(tarred({n: t.encode() for n, t in TEXTS.items()})))
    built = build([{"path": "memory://bucket/packed"}])
    assert {document.id for document in built.documents} == {f"packed/a.tar.gz/{name}" for name in TEXTS}
    assert list(tmp_path.rglob("spool/files/*")) == []


def test_identity_is_of_sizes_and_checksums(server: Server) -> None:
    server.files = {"/folder/a.md": b"one", "/folder/b.md": b"two"}
    source = Source(path=f"{server.url}/folder/", storage={"headers": {"X-Any": "1"}})
    first = identity_of([source])
    assert list(first[0]["contents"]) == ["a.md", "b.md"]
    assert server.url not in repr(first)
    assert "X-Any" not in repr(first)
    assert not any(command == "GET" and path.endswith(".md") for command, path in server.asked), "nothing is fetched"
    server.files["/folder/b.md"] = b"TWO"  # of the same size
    second = identity_of([source])
    assert second[0]["contents"]["a.md"] == first[0]["contents"]["a.md"]
    assert second[0]["contents"]["b.md"] != first[0]["contents"]["b.md"]


def test_plan_reads_sizes_only(server: Server) -> None:
    text = random_text(3000, random.Random(2)).encode()
    server.files = {"/folder/a.md": text, "/folder/b.md": text}
    found = estimate(CorpusSettings(sources=[{"path": f"{server.url}/folder/"}], near_duplicates=None))
    assert (found.documents, found.characters, found.problems) == (2, 2 * len(text), [])
    assert not any(command == "GET" and path.endswith(".md") for command, path in server.asked)
    found = estimate(CorpusSettings(sources=[{"path": f"{server.url}/none"}], near_duplicates=None))
    assert "there is nothing at this address" in found.problems[0]


def test_a_store_that_fails_now_and_then_is_asked_again(build: Build, server: Server) -> None:
    server.files = {"/a.md": TEXTS["a.md"].encode()}
    server.failures = 4
    built = build([{"path": f"{server.url}/a.md?download=1"}], split={"valid": 0, "test": 0})
    assert [document.id for document in built.documents] == ["a/a.md"]


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_a_store_that_is_gone_stops_the_stage(build: Build, server: Server, on_error: str) -> None:
    """Skipping what cannot be reached now would make another corpus under the same name."""
    server.files = {"/a.md": TEXTS["a.md"].encode(), "/b.md": b""}
    server.cut = True
    with pytest.raises(Disturbed, match="cannot be reached"):
        build([{"path": f"{server.url}/a.md"}], on_error=on_error)
    assert [path for command, path in server.asked if command == "GET"] == ["/a.md"] * 4
    with pytest.raises(Disturbed, match="cannot be reached"):
        build([{"path": "http://127.0.0.1:1/a.md"}], on_error=on_error)


def test_what_is_gone_or_closed_is_told_at_once(build: Build, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = {"/closed": TEXTS["b.txt"].encode()}
    with pytest.raises(LlmtuneError, match=r"(?s)no access.*Authorization: \$MY_TOKEN"):
        build([{"path": f"{server.url}/closed?signature=abc"}])
    assert len(server.asked) == 2, "a HEAD and a GET"
    source = {"path": f"{server.url}/closed?signature=abc", "storage": {"headers": {"Authorization": "$MY_TOKEN"}}}
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(LlmtuneError, match="the environment variable MY_TOKEN is not set"):
        build([source])
    monkeypatch.setenv("MY_TOKEN", "Bearer let-me-in")
    built = build([source], split={"valid": 0, "test": 0})
    assert [document.text for document in built.documents] == [TEXTS["b.txt"]]
    stage = CorpusStage(sources=[source])
    told = json.dumps([stage.model_dump(mode="json"), stage.identity(), stage.described(stage.identity())])
    told += b"".join(path.read_bytes() for path in built.folder.rglob("*") if path.is_file()).decode("latin-1")
    assert "let-me-in" not in told
    assert "signature=abc" not in json.dumps(stage.identity())


def test_secrets_and_signatures_are_not_in_messages(server: Server) -> None:
    for path in ("none", "closed"):
        with pytest.raises(LlmtuneError) as caught:
            files_of(Source(path=f"{server.url}/{path}?signature=abc"))
        assert "signature" not in str(caught.value)


def test_a_file_larger_than_the_limit_is_not_fetched_whole(build: Build, server: Server) -> None:
    server.files = {"/folder/a.md": TEXTS["a.md"].encode(), "/folder/b.txt": os.urandom(12 << 20)}
    built = build(
        [{"path": f"{server.url}/folder/", "unpack": {"max_file_bytes": 1 << 20}}], split={"valid": 0, "test": 0}
    )
    assert built.metrics["documents"] == 1
    assert built.metrics["dropped"] == {"too large": 1}


def test_one_file_that_vanished_is_skipped_or_not_as_the_recipe_says(
    build: Build, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = places.listed

    def then_gone(url: str, storage: Any) -> places.Listing:
        found = listed(url, storage)
        if bucket.exists("/bucket/manual/b.txt"):
            bucket.rm("/bucket/manual/b.txt")
        return found

    monkeypatch.setattr("llmtune.corpus.sources.listed", then_gone)
    built = build([{"path": "memory://bucket/manual"}])
    assert built.metrics["documents"] == 3
    assert built.metrics["dropped"] == {"unreadable file": 1}
    bucket.pipe("/bucket/manual/b.txt", b"again")
    with pytest.raises(LlmtuneError, match=r"memory://bucket/manual/b.txt.*unreadable"):
        build([{"path": "memory://bucket/manual"}], on_error="fail")


@pytest.mark.parametrize(("url", "package"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("https://h/x", "aiohttp")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    monkeypatch.setattr("llmtune.extras.have", lambda module: module != package)
    with pytest.raises(MissingExtra, match=rf"(?s){package}.*llmtune\[remote\]"):
        files_of(Source(path=url))
    found = estimate(CorpusSettings(sources=[{"path": url}], near_duplicates=None))
    assert package in found.problems[0]


def test_data_sets_of_the_hub(build: Build, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are those of the hub's own file system for fsspec; the card is not data, and no script is run."""
    rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS.values()).encode()

    class Hub(type(bucket)):  # type: ignore[misc]
        protocol = "hf"
        cachable = False

        def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
            return super().info(path, **kwargs) | {"blob_id": "of the file"}

        def find(self, path: str, **kwargs: Any) -> dict[str, Any]:
            return {name: about | {"blob_id": "of the file"} for name, about in super().find(path, **kwargs).items()}

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/bucket/" + path.removeprefix("hf://").removeprefix("/bucket/").rstrip("/")

    files = {
        "data/train.jsonl": rows,
        "README.md": b"# A card",
        "build.py": b"raise SystemExit",
        ".gitattributes": b"x",
    }
    for name, content in files.items():
        bucket.pipe(f"/bucket/datasets/org/name/{name}", content)
    monkeypatch.setattr(fsspec, "filesystem", lambda protocol, **options: Hub())
    source = Source(path="hf://datasets/org/name", include=["*.jsonl", "*.md"])
    assert source_names([source]) == ["name"]
    (file,) = files_of(source)
    assert (file.name, file.distant.stamp if file.distant else None) == ("data/train.jsonl", "blob_id of the file")


def test_nothing_of_it_is_imported_without_a_url(folder: Path) -> None:
    code = (
        "import sys; from llmtune.corpus.sources import files_of; from llmtune.corpus.settings import Source; "
        f"files_of(Source(path={str(folder)!r})); "
        "print([m for m in ('fsspec', 'aiohttp', 'huggingface_hub') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_password_in_an_option_is_refused() -> None:
    with pytest.raises(ValidationError, match="written into every run"):
        Source.model_validate({"path": "s3://bucket/a", "storage": {"endpoint_url": "https://user:word@minio.example"}})

"""An S3 bucket of moto's server, which answers as Amazon's does: `pip install 'moto[server]' s3fs`, which `dev` leaves
out (pyproject.toml says why)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmtune.corpus.settings import Source
from llmtune.corpus.sources import files_of, identity_of
from llmtune.errors import LlmtuneError

from .conftest import Build
from .test_places import TEXTS, no_waiting

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

__all__ = ["no_waiting"]
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A store with the texts below `s3://bucket/manual`, and the options that open it."""
    import s3fs

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    store.mkdir("bucket")
    for name, text in TEXTS.items():
        store.pipe(f"bucket/manual/{name}", text.encode())
    yield store, options
    store.rm("bucket", recursive=True)  # the next server has the same buckets
    server.stop()


def test_a_bucket_is_read_as_a_folder(build: Build, bucket: tuple[Any, dict[str, Any]]) -> None:
    store, options = bucket
    source = {"path": "s3://bucket/manual", "storage": options}
    built = build([source])
    texts = {document.id.removeprefix("manual/"): document.text for document in built.documents}
    assert texts == {name: text.strip() for name, text in TEXTS.items()}
    found = files_of(Source(path="s3://bucket/manual/**/*.md", storage=options))
    assert [file.name for file in found] == ["a.md", "sub/c.md", "sub/deep/d.md"]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS.values())
    store.pipe("bucket/packed/rows.jsonl.gz", gzip.compress(rows.encode()))
    assert len(build([{"path": "s3://bucket/packed/rows.jsonl.gz", "storage": options}]).documents) == len(TEXTS)


def test_the_stores_checksum_tells_a_change(bucket: tuple[Any, dict[str, Any]]) -> None:
    store, options = bucket
    sources = [Source(path="s3://bucket/manual", storage=options)]
    before = identity_of(sources)
    assert identity_of(sources) == before
    assert SECRET not in json.dumps(before)
    changed = TEXTS["b.txt"].swapcase()
    assert len(changed) == len(TEXTS["b.txt"])
    store.pipe("bucket/manual/b.txt", changed.encode())
    assert identity_of(sources) != before


def test_what_is_not_there_is_named(bucket: tuple[Any, dict[str, Any]]) -> None:
    for url in ("s3://bucket/none", "s3://nobucket/manual"):
        with pytest.raises(LlmtuneError) as raised:
            files_of(Source(path=url, storage=bucket[1]))
        assert url in str(raised.value.where)

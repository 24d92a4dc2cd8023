"""The format of files by content, where their names say nothing or something wrong."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmtune.corpus.readers import actual_format, format_of, named_format
from llmtune.corpus.readers.sniff import certain_format, sniffed
from tests.corpus.conftest import Build


def zipped(*members: tuple[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in members:
            archive.writestr(name, text)
    return data.getvalue()


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), data)
    return data.getvalue()


CONTENTS = {
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "parquet": parquet(),
    "docx": zipped(("[Content_Types].xml", "x" * 9000), ("word/document.xml", "<w/>")),
    "pptx": zipped(("ppt/presentation.xml", "<p/>"), ("ppt/slides/slide1.xml", "<p/>")),
    "epub": zipped(("mimetype", "application/epub+zip"), ("OEBPS/content.opf", "<o/>")),
    "html": b"\n<!-- saved -->\n<!DOCTYPE html>\n<p>text",
    "man": b'.\\" comment\n\'\\" t\n.nh\n.TH LS 1\n.SH NAME\nls',
    "notebook": b'{\n "cells": [\n  {\n   "cell_type": "markdown"',
    "jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "code": b"#!/bin/sh\necho hello\n",
    "text": b"To whom it may concern:\nplain words.\n",
}


@pytest.mark.parametrize("format", CONTENTS)
@pytest.mark.parametrize("name", ["without-suffix", "unknown.suffix"])
def test_files_that_their_names_say_nothing_about(tmp_path: Path, name: str, format: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[format])
    assert sniffed(path) == format
    assert format_of(path) == format


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b".Dd January 1, 2024\n.Dt LS 1\n", "man"),
        (b".so man1/bash.1\n", "man"),
        (b".title of something\nplain words\n", "text"),
        (b"'so what', he said.\n", "text"),
        (b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">', "html"),
        (b'<?xml version="1.0"?>\n<svg>', None),
        (b'[\n {"text": "one"},', "jsonl"),
        (b"{ braces in prose }\n", "text"),
        (b"[1] a footnote\n", "text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", None),
        (zipped(("a.txt", "text")), None),
        ("text in UTF-16".encode("utf-16"), "text"),
        (b"", None),
    ],
)
def test_what_looks_alike(tmp_path: Path, content: bytes, format: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sniffed(path) == format


@pytest.mark.parametrize(
    "content", [b"\n" * 5000 + b"text", b"<!-- a -->\n" * 500 + b"text", b".\n\n" * 2000, b"." * 60_000]
)
def test_no_head_takes_long_to_look_at(tmp_path: Path, content: bytes) -> None:
    """Patterns that can match empty lines or comments in several ways take exponential time: hours for these."""
    path = tmp_path / "file"
    path.write_bytes(content)
    begin = time.process_time()
    assert sniffed(path) == "text"
    assert time.process_time() - begin < 2


def test_suffixes_decide_without_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path) -> str:
        raise AssertionError(f"{path} was looked into")

    monkeypatch.setattr("llmtune.corpus.readers.sniffed", never)
    names = {"a.RST": "rst", "a.py": "code", "a.csv": "csv", "a.png": None, "man/man3/printf.3posix": "man"}
    assert {name: format_of(tmp_path / name) for name in names} == names
    with pytest.raises(AssertionError, match="looked into"):
        format_of(tmp_path / "syslog.1")
    assert named_format("logs/syslog.1") is None


def test_wrong_suffixes(tmp_path: Path) -> None:
    cases = [
        ("page.txt", "html", "text", "html"),
        ("page.md", "html", "markdown", "markdown"),  # Markdown may begin with HTML
        ("paper.html", "pdf", "html", "pdf"),
        ("paper.doc.txt", "docx", "text", "docx"),
        ("notes.txt", "text", "text", "text"),
        ("lines.log", "jsonl", "text", "text"),  # a log of JSON objects is no corpus of records
    ]
    for name, content, said, expected in cases:
        path = tmp_path / name
        path.write_bytes(CONTENTS[content])
        assert actual_format(path, said) == expected, name
    assert certain_format(tmp_path / "page.txt", CONTENTS["jsonl"]) is None


def test_a_folder_of_files_without_suffixes_becomes_documents(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "mixed"
    (folder / "man1").mkdir(parents=True)
    words = "These are words that make up a paragraph long enough to be kept in the corpus, as it is longer than that. "
    (folder / "README").write_text(words + "README")
    (folder / "saved-page").write_text(f"<!doctype html><title>Saved</title><p>{words}")
    (folder / "page.txt").write_text(f"<html><body><h1>Named text</h1><p>{words * 2}")
    (folder / "records").write_text(json.dumps({"text": f"{words}record"}) + "\n")
    (folder / "man1" / "tool.1").write_text(f".TH TOOL 1\n.SH NAME\ntool \\- a tool\n.SH DESCRIPTION\n{words}\n")
    (folder / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r")
    built = build([{"path": folder}], near_duplicates=None)
    texts = {document.id: document.text or "" for document in built.documents}
    assert set(texts) == {
        *(f"mixed/{name}" for name in ("README", "man1/tool.1", "page.txt", "records#1", "saved-page")),
    }
    assert texts["mixed/saved-page"].startswith("# Saved\n")
    assert texts["mixed/page.txt"].startswith("# Named text\n")
    assert texts["mixed/man1/tool.1"].startswith("# TOOL(1)\n\n## NAME\n\ntool - a tool\n")
    assert built.metrics["dropped"] == {"binary file": 1}

"""Arrays and lines of any length: one record in memory at a time, and what is too long is named."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.corpus.readers import json_array, jsonl, reader_of
from llmtune.corpus.readers.json_array import elements
from llmtune.corpus.readers.reader import PieceReader, RawDocument, Rejected, Unreadable
from llmtune.corpus.settings import Source

VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUES, max_size=4), st.integers(1, 9), st.sampled_from([None, 2]))
def test_elements_are_those_that_json_reads(values: list[Any], chunk: int, indent: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_CHUNK", chunk)
        assert list(elements(io.StringIO(f" {json.dumps(values, indent=indent)}\n"), 1 << 20)) == values


@pytest.mark.parametrize("text", ["[1 2]", "[1,]", "[1", "[", "[1] 2", "[1,,2]", "{}", ""])
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text if text != "{}" else "[{}}")
    with pytest.raises(ValueError):
        list(elements(io.StringIO(text), 100))


def read(path: Path) -> list[RawDocument | Rejected]:
    return list(reader_of("jsonl").read(path, Source(path=path)))


def test_a_line_over_the_limit_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_LONGEST", 1 << 20)
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "first"}\n{"text": "')
        for _ in range(60):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "third"}\n')
    reader, source = reader_of("jsonl"), Source(path=path)
    assert isinstance(reader, PieceReader)
    tracemalloc.start()
    first, second, third = read(path)
    pieces = list(reader.pieces(path, source, 1 << 16))
    in_pieces = [raw for piece in pieces for raw in reader.read_piece(path, source, piece)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(first, RawDocument)
    assert isinstance(third, RawDocument)
    assert (first.text, third.text, third.part) == ("first", "third", "#3")
    assert isinstance(second, Rejected)
    assert (second.reason, second.part) == ("too large", "#2")
    assert "62.9 MB" in second.detail
    assert in_pieces == [first, second, third]
    assert [piece.first for piece in pieces] == [1, 3]
    assert peak < 8 << 20


def test_an_array_is_read_element_by_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "_CHUNK", 1 << 16)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": f"{number} " * 2000} for number in range(2000)]))
    tracemalloc.start()
    count = sum(isinstance(raw, RawDocument) for raw in reader_of("jsonl").read(path, Source(path=path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < path.stat().st_size / 8
    monkeypatch.setattr(jsonl, "_LONGEST", 1000)
    with pytest.raises(Unreadable, match="damaged file: not JSON: an element of more than 1,000 characters"):
        read(path)
    (tmp_path / "b.json").write_text('{\n"a": "' + "x" * 2000 + '"}')
    with pytest.raises(Unreadable, match="too large"):
        read(tmp_path / "b.json")

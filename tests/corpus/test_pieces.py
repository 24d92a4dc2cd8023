"""Pieces of large files: read one by one, they are the whole."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtune.corpus.readers import jsonl, reader_of
from llmtune.corpus.readers.reader import Piece, PieceReader, RawDocument, Rejected
from llmtune.corpus.settings import Source

from .conftest import read


def in_pieces(path: Path, format: str, size: int) -> tuple[list[RawDocument | Rejected], list[Piece]]:
    """What is read piece by piece, and the pieces."""
    reader, source = reader_of(format), Source(path=path)
    assert isinstance(reader, PieceReader)
    pieces = list(reader.pieces(path, source, size))
    return [raw for piece in pieces for raw in reader.read_piece(path, source, piece)], pieces


LINE = st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=60))


ODD_LINE = st.sampled_from([b"", b" ", b"\r", b"{bad", b"\xff\xfe", b"\xef\xbb\xbf" + b'{"text": "a"}', b"1" * 300])


@given(
    st.lists(LINE | ODD_LINE, min_size=1, max_size=40),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n", b"\n\n"]),
    st.integers(2, 200),
)
def test_pieces_of_lines_are_the_whole(lines: list[bytes], end: bytes, last: bytes, size: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_LONGEST", 250)
        path = Path(folder, "a.jsonl")
        path.write_bytes(data := b'{"text": "first"}\n' + end.join(lines) + last)
        read_so, pieces = in_pieces(path, "jsonl", size)
        assert read_so == read(path, "jsonl")
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == len(data)
    for piece in pieces:
        assert piece.first == data[: piece.start].count(b"\n") + 1
        assert piece.start == 0 or data[piece.start - 1 : piece.start] == b"\n"
        lines_of_it = data[piece.start : piece.end].splitlines(keepends=True)
        assert piece.end - piece.start <= size + max(map(len, lines_of_it))
        assert piece is pieces[-1] or piece.end - piece.start > size // 2


@pytest.mark.parametrize(
    "data", [b'[{"text": "a"}]', '{"text": "a"}\n'.encode("utf-16"), b'{"text":\n "a"}', b"\0\0\0\n", b""]
)
def test_what_is_not_read_by_lines_has_no_pieces(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert in_pieces(path, "jsonl", 4) == ([], [])


def test_pieces_of_parquet_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    random_ = random.Random(6)
    texts = [None if number % 9 == 0 else random_.randbytes(40).hex() * (number % 4) for number in range(300)]
    table = pa.table({"noise": range(300), "text": texts})
    pq.write_table(table, path, row_group_size=7)
    whole = read(path, "parquet")
    assert len(whole) == 300
    assert len(in_pieces(path, "parquet", 1)[1]) == 1  # for so large a footer
    monkeypatch.setattr("llmtune.corpus.readers.parquet._OF_FOOTER", 0)
    for size, least in ((1, 43), (2000, 5), (10**9, 1)):
        read_so, pieces = in_pieces(path, "parquet", size)
        assert read_so == whole
        assert len(pieces) >= least
        assert [group for piece in pieces for group in piece.groups] == list(range(43))
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert {piece.footer for piece in pieces} == {pieces[-1].end}
        footer = pq.read_metadata(io.BytesIO(b"PAR1" + path.read_bytes()[pieces[-1].end :]))
        assert footer.equals(pq.read_metadata(path))
    pq.write_table(table.select(["noise"]), path, row_group_size=7)
    assert in_pieces(path, "parquet", 1) == ([], [])  # none of its columns is known


def test_damage_in_parquet_costs_the_rest_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.corpus.readers.parquet._OF_FOOTER", 0)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["some words " * 50] * 40}), path, compression="zstd", row_group_size=10)
    _, pieces = in_pieces(path, "parquet", 1)
    data = bytearray(path.read_bytes())
    data[pieces[1].start : pieces[1].start + 56] = b"\xff" * 56
    path.write_bytes(data)
    found, _ = in_pieces(path, "parquet", 1)
    (bad,) = [raw for raw in found if isinstance(raw, Rejected)]
    assert (bad.part, bad.reason) == ("#11", "damaged file")
    assert [raw.part for raw in found] == [f"#{number}" for number in (*range(1, 12), *range(21, 41))]

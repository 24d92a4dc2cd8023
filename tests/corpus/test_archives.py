"""Archives and compressed files: what is read, what is refused, and that nothing else is lost."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtune.corpus import archives
from llmtune.corpus.estimate import estimate
from llmtune.corpus.general import general_text
from llmtune.corpus.settings import CorpusSettings, Source
from llmtune.corpus.sources import files_of, identity_of
from llmtune.corpus.unpack import local_files
from llmtune.errors import LlmtuneError
from tests.corpus.conftest import Build, random_text

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
TEXTS = {f"{number}.txt": random_text(60, random.Random(number)).encode() for number in range(6)}


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return data.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def held(path: Path, tmp_path: Path, **source: Any) -> dict[str, bytes | tuple[str, str]]:
    """name → bytes, or (reason, detail), of all that a source stands for; the spool is empty at the end."""
    spool = tmp_path / "spool"
    found: dict[str, bytes | tuple[str, str]] = {}
    meant = Source(path=path, **source)
    for file in files_of(meant):
        for one in local_files(file, meant, spool):
            assert one.name not in found
            found[one.name] = one.problem or one.path.read_bytes()
            assert len(list(spool.rglob("*.*"))) <= 3, "one file at a time, and what it came out of"
    assert not list(spool.glob("*"))
    return found


@pytest.mark.parametrize("kind", ["zip", "tar", *(f"tar.{kind}" for kind in PACK), "tgz", "tbz2", "txz", "tzst"])
def test_every_kind_of_archive_gives_its_files(tmp_path: Path, kind: str) -> None:
    files = {"a.txt": b"first", "sub/b.md": b"# second", "./c.txt": b"third"}
    data = zipped(files) if kind == "zip" else tarred(files)
    packer = {"tgz": "gz", "tbz2": "bz2", "txz": "xz", "tzst": "zst"}.get(kind, kind.removeprefix("tar."))
    data = PACK[packer](data) if packer in PACK else data
    path = tmp_path / f"dump.{kind}"
    path.write_bytes(data)
    there = {"a.txt": b"first", "sub/b.md": b"# second", "c.txt": b"third"}
    assert held(path, tmp_path) == {f"dump.{kind}/{name}": content for name, content in there.items()}


@pytest.mark.parametrize("kind", list(PACK))
def test_every_kind_of_compressed_file_is_read_as_what_it_holds(build: Build, tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    rows = [{"text": random_text(50, random.Random(number))} for number in range(9)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    (tmp_path / "in" / f"a.jsonl.{kind}").write_bytes(PACK[kind](lines[:4000]) + PACK[kind](lines[4000:]))
    (tmp_path / "in" / f"b.md.{kind}").write_bytes(PACK[kind](b"# Title\n\n" + TEXTS["1.txt"]))
    built = build([{"path": tmp_path / "in"}], near_duplicates=None)
    texts = {document.id: document.text for document in built.documents}
    assert [texts[f"in/a.jsonl.{kind}#{number}"] for number in range(1, 10)] == [row["text"] for row in rows]
    assert (texts[f"in/b.md.{kind}"] or "").startswith("# Title\n")
    assert not built.metrics["dropped"]


def test_ids_identity_and_general_text(build: Build, tmp_path: Path) -> None:
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    (tickets / "dump.tar").write_bytes(tarred({f"2024/{name}": text for name, text in TEXTS.items()}))
    (tickets / "plain.txt").write_text(random_text(60, random.Random(9)))
    built = build([{"path": tickets}])
    wanted = {f"tickets/dump.tar/2024/{name}" for name in TEXTS} | {"tickets/plain.txt"}
    assert {document.id for document in built.documents} == wanted
    assert {document.id for document in general_text(tickets)} == wanted
    before = identity_of([Source(path=tickets)])
    (tickets / "dump.tar").write_bytes(tarred({**TEXTS, "0.txt": b"changed"}))
    assert identity_of([Source(path=tickets)]) != before


def test_include_and_exclude_are_about_members(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "a.zip").write_bytes(
        zipped({"x.md": b"x", "y.txt": b"y", "drafts/z.md": b"z", ".git/c.md": b"c", "__MACOSX/._x.md": b"m"})
    )
    assert set(held(top, tmp_path)) == {"a.zip/x.md", "a.zip/y.txt", "a.zip/drafts/z.md"}
    assert set(held(top, tmp_path, include=["*.md"], exclude=["drafts"])) == {"a.zip/x.md"}
    assert set(held(top / "*.zip", tmp_path, format="markdown", include=["a.zip/drafts/**"])) == {"a.zip/drafts/z.md"}
    with pytest.raises(LlmtuneError, match="no file matches"):
        files_of(Source(path=top, exclude=["*.zip"]))


def test_one_level_of_archives_in_archives(tmp_path: Path) -> None:
    twice = gzip.compress(gzip.compress(b"twice"))
    inner = zipped({"a.txt": b"deep", "b.txt.gz": gzip.compress(b"packed"), "more.zip": zipped({"c.txt": b"no"})})
    path = tmp_path / "outer.tar.gz"
    path.write_bytes(gzip.compress(tarred({"inner.zip": inner, "d.txt": b"d", "e.gz.gz": twice})))
    found = held(path, tmp_path)
    assert found["outer.tar.gz/inner.zip/a.txt"] == b"deep"
    assert found["outer.tar.gz/inner.zip/b.txt.gz"] == b"packed"
    assert found["outer.tar.gz/d.txt"] == b"d"
    assert found["outer.tar.gz/inner.zip/more.zip"][0] == "archives nested too deeply"
    assert found["outer.tar.gz/e.gz.gz"] == ("archives nested too deeply", "compressed, in 2 archives already")


def test_what_is_compressed_twice_and_what_is_called_a_tar(tmp_path: Path) -> None:
    twice = gzip.compress(gzip.compress(tarred({"a.txt": b"a"})))
    for name, data in {"b.txt.gz.gz": gzip.compress(gzip.compress(b"b")), "c.tar.gz": twice}.items():
        (tmp_path / name).write_bytes(data)
    assert held(tmp_path / "b.txt.gz.gz", tmp_path) == {"b.txt.gz.gz": b"b"}
    assert held(tmp_path / "c.tar.gz", tmp_path) == {"c.tar.gz/a.txt": b"a"}
    no_tar = ("damaged file", "neither gzip, bzip2, xz, zstd, zip nor tar by its first bytes")
    for name in ("d.tar.gz", "d.tgz"):
        (tmp_path / name).write_bytes(gzip.compress(b"text"))
        assert held(tmp_path / name, tmp_path) == {name: no_tar}
    (tmp_path / "e.zip").write_bytes(zipped({"d.tgz": gzip.compress(b"text"), "f.gz.gz": twice, "g.gz": b"text"}))
    found = held(tmp_path / "e.zip", tmp_path)
    assert (found["e.zip/d.tgz"], found["e.zip/g.gz"]) == (no_tar, no_tar)
    assert found["e.zip/f.gz.gz"][0] == "archives nested too deeply"


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_path_escapes_are_named_and_never_written(tmp_path: Path, name: str, pack: Callable[..., bytes]) -> None:
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    (place / "a.zip").write_bytes(pack({name: b"evil", "good.txt": b"good"}))
    before = sorted(tmp_path.rglob("*"))
    found = held(place, tmp_path / "work")
    assert found.pop("a.zip/good.txt") == b"good"
    assert [problem[0] for problem in found.values()] == ["unsafe entry of an archive"]
    assert list(tmp_path.rglob("*evil*")) == []
    assert sorted(path for path in tmp_path.rglob("*") if "work" not in path.parts) == before


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(
        tarred(
            {"good.txt": b"good"},
            entry("soft.txt", tarfile.SYMTYPE, "/etc/passwd"),
            entry("hard.txt", tarfile.LNKTYPE, "good.txt"),
            entry("device.txt", tarfile.CHRTYPE),
            entry("pipe.txt", tarfile.FIFOTYPE),
        )
    )
    found = held(tar, tmp_path)
    assert found.pop("a.tar/good.txt") == b"good"
    assert {name[6:]: problem[0] for name, problem in found.items()} == {
        "soft.txt": "link not followed",
        "hard.txt": "link not followed",
        "device.txt": "unsafe entry of an archive",
        "pipe.txt": "unsafe entry of an archive",
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("soft.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "b.zip").write_bytes(data.getvalue())
    assert held(tmp_path / "b.zip", tmp_path)["b.zip/soft.txt"][0] == "link not followed"


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "txt.gz", "tar.zst"])
def test_a_bomb_is_ended_and_the_rest_is_read(
    build: Build, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1 << 18)
    bomb = b" " * (8 << 20)
    top = tmp_path / "top"
    top.mkdir()
    packed = {"zip": zipped, "tar.gz": tarred, "tar.zst": tarred}.get(kind, lambda files: files["b.txt"])
    data = packed({"a.txt": TEXTS["0.txt"], "b.txt": bomb, "c.txt": TEXTS["1.txt"]})
    (top / f"bomb.{kind}").write_bytes(PACK[kind.rpartition(".")[2]](data) if "." in kind else data)
    (top / "plain.txt").write_bytes(TEXTS["2.txt"])
    written: list[int] = []
    spend = archives.Budget.spend
    monkeypatch.setattr(archives.Budget, "spend", lambda self, size: (spend(self, size), written.append(size)))
    built = build([{"path": top}])
    kept = {document.id for document in built.documents}
    assert "top/plain.txt" in kept
    assert built.metrics["dropped"] == {"too large": 1}
    assert sum(written) <= 3 << 20, "not much more than the limit is unpacked"
    if kind == "zip":  # whose directory tells which entry it is
        assert {"top/bomb.zip/a.txt", "top/bomb.zip/c.txt"} < kept
    elif kind.startswith("tar"):
        assert f"top/bomb.{kind}/a.txt" in kept
    with pytest.raises(LlmtuneError, match=r"(?s)bomb.*too large.*on_error: skip"):
        build([{"path": top}], on_error="fail")


def test_each_limit_of_unpack_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"a.txt": b"a" * 900, "b.txt": b"b" * 5000, "c.txt": b"c" * 900}))

    def problems(**unpack: Any) -> dict[str, str]:
        found = held(path, tmp_path, unpack=unpack)
        return {name: found[name][1] for name in found if isinstance(found[name], tuple)}

    assert problems() == {}
    assert list(problems(max_file_bytes=1000)) == ["a.tar/b.txt"]
    assert "more than 2 entries" in problems(max_files=2)["a.tar"]
    assert "more than 6.0 kB" in problems(max_total_bytes=6000)["a.tar"]
    monkeypatch.setattr(archives, "_SMALL", 1000)
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(b"x" * 100_000))
    assert held(packed, tmp_path, unpack={"max_ratio": 2})["b.txt.gz"][0] == "too large"
    assert held(packed, tmp_path, unpack={"max_ratio": 2000})["b.txt.gz"] == b"x" * 100_000


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"secret"}))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # the flag of both headers: encrypted
        at = data.find(mark) + (6 if mark.endswith(b"\x04") else 8)
        data[at] |= 1
    (tmp_path / "a.zip").write_bytes(zipped({}) and bytes(data))
    assert held(tmp_path / "a.zip", tmp_path) == {"a.zip/a.txt": ("password-protected file", "needs a password")}


def test_what_came_before_the_damage_is_kept(build: Build, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    rows = "".join(json.dumps({"text": random_text(60, random.Random(n))}) + "\n" for n in range(100, 150)).encode()
    (top / "a.jsonl.gz").write_bytes(gzip.compress(rows)[:-9])
    (top / "b.txt.gz").write_bytes(gzip.compress(TEXTS["0.txt"] * 20)[:-9])
    (top / "c.tar").write_bytes(tarred(TEXTS)[:2600])
    (top / "d.tar").write_bytes(tarred(TEXTS)[:2048])  # between two entries
    (top / "e.zip").write_bytes(zipped(TEXTS)[:-30])
    (top / "f.zip").write_bytes(b"no archive at all")
    bad = bytearray(zipped({"0.txt": TEXTS["3.txt"], "1.txt": TEXTS["4.txt"]}))
    bad[60:90] = bytes(30)
    (top / "g.zip").write_bytes(bad)
    built = build([{"path": top}], near_duplicates=None)
    dropped = json.loads((built.folder / "card.json").read_text())["dropped_named"]["damaged file"]
    assert [one["id"] for one in dropped] == [
        "top/a.jsonl.gz", "top/b.txt.gz", "top/c.tar/2.txt", "top/c.tar", "top/d.tar", "top/e.zip", "top/f.zip",
        "top/g.zip/0.txt",
    ]  # fmt: skip
    kept = {document.id for document in built.documents}
    assert len([id for id in kept if id.startswith("top/a.jsonl.gz#")]) >= 40
    assert {"top/c.tar/0.txt", "top/g.zip/1.txt"} <= kept


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["zip", "tar", "tar.gz", "tar.xz", "tar.zst", "txt.bz2"]),
    at=st.floats(0, 1),
    bytes_=st.binary(min_size=1, max_size=40),
    cut=st.booleans(),
)
def test_no_damage_is_an_error_of_ours(tmp_path: Path, kind: str, at: float, bytes_: bytes, cut: bool) -> None:
    data = zipped(TEXTS) if kind == "zip" else tarred(TEXTS) if kind.startswith("tar") else TEXTS["0.txt"]
    data = PACK[kind.rpartition(".")[2]](data) if "." in kind else data
    place = int(at * len(data))
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data[:place] if cut else data[:place] + bytes_ + data[place + len(bytes_) :])
    for content in held(path, tmp_path).values():
        assert isinstance(content, tuple | bytes)


def test_a_header_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"a.txt": b"a"})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    found = held(path, tmp_path)
    assert found["a.tar/a.txt"] == b"a"
    assert "a header of" in found["a.tar"][1]


def test_an_archive_of_nothing_is_named(tmp_path: Path) -> None:
    for name, data in {
        "a.zip": zipped({}),
        "b.tar": tarred({}),
        "c.txt.gz": gzip.compress(bytes(5000)),
        "d.gz": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert held(tmp_path / name, tmp_path)[name][0] == "empty file"


def test_a_path_that_stands_twice_in_a_tar_has_two_names(tmp_path: Path) -> None:
    first, second = tarred({"a.txt": b"one"}), tarred({"a.txt": b"two"})
    (tmp_path / "a.tar").write_bytes(first[:1024] + second)
    assert held(tmp_path / "a.tar", tmp_path) == {"a.tar/a.txt": b"one", "a.tar/a.txt (2)": b"two"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "txt.gz"])
def test_plan_sees_into_archives(tmp_path: Path, kind: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    texts = {f"{n}.txt": random_text(900, random.Random(n)).encode() for n in range(40)}
    if kind == "txt.gz":
        for name, text in texts.items():
            (top / f"{name}.gz").write_bytes(gzip.compress(text))
    else:
        data = zipped(texts) if kind == "zip" else tarred(texts)
        (top / f"a.{kind}").write_bytes(gzip.compress(data) if kind == "tar.gz" else data)
    found = estimate(CorpusSettings(sources=[{"path": top}], near_duplicates=None))
    characters = sum(map(len, texts.values()))
    exact = kind in ("zip", "txt.gz")
    assert found.characters == pytest.approx(characters, rel=0.05 if exact else 0.6)
    assert found.documents == 40 if exact else 5 <= found.documents <= 400
    assert found.spool >= len(texts["0.txt"]) * 0.95 or kind.startswith("tar")


def test_plan_names_the_packages_that_members_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"x.html": b"<p>x</p>"}))
    monkeypatch.setattr("llmtune.corpus.estimate.have", lambda module: False)
    found = estimate(CorpusSettings(sources=[{"path": tmp_path / "a.zip"}], near_duplicates=None))
    assert "selectolax" in "\n".join(found.problems)


def test_symbolic_link_loops_are_named(build: Build, folder: Path) -> None:
    (folder / "a.txt").symlink_to("b.txt")
    (folder / "b.txt").symlink_to("a.txt")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..")
    built = build([{"path": folder}])
    assert built.metrics["documents"] == 20
    assert built.metrics["dropped"] == {"unreadable file": 2, "link not followed": 1}


def test_names_that_are_too_long_for_a_disk(build: Build, tmp_path: Path) -> None:
    """Of a letter more bytes than characters, and one of a path that no disk has."""
    draw = random.Random(1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("文" * 84 + ".txt", random_text(60, draw))
        archive.writestr("a/" * 3000 + "b.txt", random_text(60, draw))
    built = build([{"path": tmp_path / "a.zip"}])
    assert len(built.documents) == 1
    assert json.loads((built.folder / "card.json").read_text())["dropped"] == {"unsafe entry of an archive": 1}

"""The corpus as a whole: what is kept and dropped, reproducibility, resume, errors."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtune.corpus.build import build_corpus
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.store import Document, count, read_split, write_split
from llmtune.errors import BadArtifact, LlmtuneError, Stopped
from llmtune.monitor import Monitor

from .conftest import Build, changed, random_text


class Notes(Monitor):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def assert_same_files(first: Path, second: Path) -> None:
    compared = filecmp.dircmp(first, second)
    assert not compared.left_only + compared.right_only
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_schema_and_hashes(build: Build, folder: Path) -> None:
    built = build([{"path": folder, "licence": "CC0-1.0"}])
    assert {document.id for document in built.documents} == {f"texts/{number:02d}.txt" for number in range(20)}
    for document in built.documents:
        assert document.text is not None
        assert document.sha256 == hashlib.sha256(document.text.encode()).hexdigest()
        assert (document.source, document.licence, document.messages) == ("texts", "CC0-1.0", None)
    assert all(built.splits.values())
    assert built.metrics["documents"] == 20
    assert built.metrics["characters"] == sum(len(document.text or "") for document in built.documents)


def test_the_card_says_the_languages(build: Build, tmp_path: Path) -> None:
    """Sentences of three languages, one page with too little to tell; two hundred documents, of which some are told."""
    sentences = {
        "en": "The planner estimates the cost of every path and keeps the cheapest one for the table.",
        "de": "Der Planer schätzt die Kosten jedes Weges und behält den günstigsten für die Tabelle.",
        "fr": "Le planificateur estime le coût de chaque chemin et garde le moins cher pour la table.",
    }
    (tmp_path / "pages").mkdir()
    for number in range(200):
        text = sentences["de" if number % 4 == 1 else "fr" if number % 8 == 2 else "en"]
        (tmp_path / "pages" / f"{number}.txt").write_text(f"{text} {text} {number}")
    card = json.loads((build([{"path": tmp_path / "pages"}], near_duplicates=None).folder / "card.json").read_text())
    assert sum(card["languages"].values()) == 100
    assert list(card["languages"]) == ["en", "de", "fr"]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "1.txt").write_text("12 34 56 78 " * 20)
    built = build([{"path": tmp_path / "few"}], split={"valid": 0, "test": 0})
    assert json.loads((built.folder / "card.json").read_text())["languages"] == {"no prose": 1}
    assert built.metrics["languages"] == {"no prose": 1}


def test_bad_files_are_named_skipped_and_counted(build: Build, folder: Path) -> None:
    (folder / "empty.txt").write_bytes(b"")
    (folder / "picture.txt").write_bytes(bytes(range(256)) * 4)
    (folder / "latin.txt").write_bytes("naïve café ".encode("latin-1") * 30)
    (folder / "tool.exe").write_bytes(b"MZ\0\0" * 100)
    (folder / "style.css").write_text("p { color: red }")
    (folder / "short.txt").write_text("too short")
    (folder / "blank.txt").write_text(" \n\u200b\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("hidden " * 50)
    notes = Notes()
    built = build([{"path": folder, "encoding": "utf-8"}], monitor=notes)
    assert built.metrics["documents"] == 20
    assert built.metrics["dropped"] == {
        "binary file": 2,
        "empty file": 1,
        "no reader for this format": 1,
        "no text": 1,
        "too short": 1,
        "wrong encoding": 1,
    }
    assert any("texts/latin.txt" in note and "wrong encoding" in note for note in notes.notes)
    card = json.loads((built.folder / "card.json").read_text())
    assert [entry["id"] for entry in card["dropped_named"]["binary file"]] == ["texts/picture.txt", "texts/tool.exe"]
    assert "byte 0xef at offset 2" in card["dropped_named"]["wrong encoding"][0]["detail"]


def test_on_error_fail_names_the_file(build: Build, folder: Path) -> None:
    (folder / "05-latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(LlmtuneError, match=r"(?s)05-latin\.txt.*wrong encoding.*on_error: skip"):
        build([{"path": folder, "encoding": "utf-8"}], on_error="fail")
    assert (
        build([{"path": folder, "encoding": "latin-1"}], on_error="fail", min_characters=1).metrics["documents"] == 21
    )


def test_empty_corpus_tells_the_reasons(build: Build, folder: Path) -> None:
    (folder / "empty.txt").write_bytes(b"")
    with pytest.raises(LlmtuneError, match=r"empty after filtering: 20 × too short, 1 × empty file"):
        build([{"path": folder}], min_characters=10_000)


def test_missing_source_names_the_nearest(build: Build, folder: Path) -> None:
    with pytest.raises(LlmtuneError, match=r"(?s)'text' is not in .*did you mean .*texts"):
        build([{"path": folder.parent / "text" / "manual"}])
    with pytest.raises(LlmtuneError, match="no file matches"):
        build([{"path": folder, "include": ["*.md"]}])


def test_exact_duplicates_first_source_wins(build: Build, folder: Path) -> None:
    again = folder.parent / "again.jsonl"
    again.write_text(
        "".join(json.dumps({"text": path.read_text() + "  \n"}) + "\n" for path in sorted(folder.iterdir()))
    )
    built = build([{"path": folder}, {"path": again}])
    assert built.metrics["exact_duplicates"] == 20
    assert {document.source for document in built.documents} == {"texts"}
    samples = json.loads((built.folder / "samples.json").read_text())
    assert {"again/again.jsonl#1"} <= {dropped["id"] for dropped in samples["dropped"]}
    assert samples["dropped"][0]["detail"] == "of texts/00.txt"


def plant(folder: Path, seed: int, originals: int, copies: int) -> list[list[str]]:
    """Two sources below `folder`; families of ids that are copies of each other with 3 % of the words changed."""
    random_ = random.Random(seed)
    (folder / "a").mkdir(parents=True, exist_ok=True)
    rows = []
    families = []
    for number in range(originals):
        text = random_text(random_.randrange(60, 200), random_)
        (folder / "a" / f"{number:03d}.txt").write_text(text)
        family = [f"a/{number:03d}.txt"]
        for _ in range(random_.randrange(copies + 1)):
            rows.append({"text": changed(text, 0.03, random_)})
            family.append(f"b/b.jsonl#{len(rows)}")
        families.append(family)
    rows.append({"text": random_text(60, random_)})
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return families


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_planted_copies_never_stand_on_both_sides(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    top = tmp_path_factory.mktemp("planted")
    families = plant(top, seed, originals=40, copies=3)
    sources = [{"path": top / "a"}, {"path": top / "b.jsonl"}]
    settings_ = CorpusSettings(sources=sources, near_duplicate_action="keep", split={"valid": 0.2, "test": 0.2})
    (top / "out").mkdir()
    metrics = build_corpus(settings_, top / "out", top / "work", seed)
    side = {}
    group = {}
    for split in ("train", "valid", "test"):
        for document in read_split(top / "out", split):
            side[document.id] = split
            group[document.id] = document.group
    assert metrics["documents"] == sum(map(len, families)) + 1
    for family in families:
        assert len({side[id] for id in family}) == 1
        assert len({group[id] for id in family}) == 1
    for name in set(group.values()):
        assert len({side[id] for id in side if group[id] == name}) == 1


def test_near_duplicates_dropped_kept_or_not_looked_for(build: Build, tmp_path: Path) -> None:
    families = plant(tmp_path, 1, originals=30, copies=2)
    extra = sum(len(family) - 1 for family in families)
    sources = [{"path": tmp_path / "a"}, {"path": tmp_path / "b.jsonl"}]
    dropped = build(sources, near_duplicates=0.75)
    assert dropped.metrics["near_duplicates"] == extra
    assert dropped.metrics["documents"] == 31
    kept = build(sources, near_duplicates=0.75, near_duplicate_action="keep")
    assert kept.metrics["near_duplicates"] == 0
    assert kept.metrics["near_duplicate_clusters"] == dropped.metrics["near_duplicate_clusters"] > 0
    blind = build(sources, near_duplicates=None)
    assert blind.metrics["near_duplicate_clusters"] == 0
    assert blind.metrics["documents"] == 31 + extra


def test_copies_stay_on_one_side_whatever_counts_as_a_copy(build: Build, tmp_path: Path) -> None:
    families = plant(tmp_path, 1, originals=30, copies=2)
    sources = [{"path": tmp_path / "a"}, {"path": tmp_path / "b.jsonl"}]
    built = build(sources, near_duplicates=1.0, split={"valid": 0.2, "test": 0.2})
    side = {document.id: split for split, found in built.splits.items() for document in found}
    assert len(side) > 40, "copies with a few words changed are not dropped at 1.0"
    assert set(side.values()) == {"train", "valid", "test"}
    for family in families:
        assert len({side[id] for id in family if id in side}) <= 1


def test_made_twice_is_the_same_wherever_the_files_stand(build: Build, folder: Path) -> None:
    first = build([{"path": folder}])
    moved = folder.rename(folder.parent / "moved")
    second = build([{"path": moved, "name": "texts"}])
    assert_same_files(first.folder, second.folder)
    everything = b"".join(path.read_bytes() for path in second.folder.rglob("*.json"))
    assert str(folder.parent).encode() not in everything
    third = build([{"path": moved, "name": "texts"}], seed=8)
    assert [d.id for d in third.splits["test"]] != [d.id for d in second.splits["test"]]


class StopsAfter(Monitor):
    """Asks to stop at the n-th safe point."""

    def __init__(self, points: int) -> None:
        self.left = points

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_stopped_anywhere_and_gone_on_is_the_same(build: Build, folder: Path, tmp_path: Path) -> None:
    sources = [
        {"path": folder},
        {"path": folder, "name": "again", "exclude": ["1*"]},
        {"path": folder, "name": "third"},
    ]
    counting = StopsAfter(10**6)
    whole = build(sources, monitor=counting)
    settings_ = CorpusSettings(sources=sources)
    for points in range(0, 10**6 - counting.left, 19):
        output, work = tmp_path / f"out-{points}", tmp_path / f"kept-{points}"
        output.mkdir()
        with pytest.raises(Stopped):
            build_corpus(settings_, output, work, 7, StopsAfter(points))
        again = tmp_path / f"again-{points}"
        again.mkdir()
        build_corpus(settings_, again, work, 7)
        assert_same_files(whole.folder, again)


def test_what_is_finished_is_not_read_again(
    build: Build, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_ = CorpusSettings(sources=[{"path": folder}])
    first = build_corpus(settings_, tmp_path / "a", tmp_path / "work", 7)
    monkeypatch.setattr("llmtune.corpus.portions.raw_documents", None)
    assert build_corpus(settings_, tmp_path / "b", tmp_path / "work", 7) == first


def test_samples(build: Build, folder: Path) -> None:
    (folder / "short.txt").write_text("secret")
    some = json.loads((build([{"path": folder}], samples=3).folder / "samples.json").read_text())
    assert len(some["kept"]) == 3
    assert all(len(sample["text"]) <= 600 for sample in some["kept"])
    assert some["dropped"] == [
        {"id": "texts/short.txt", "reason": "too short", "detail": "6 characters, 100 asked for", "text": "secret"}
    ]
    none = build([{"path": folder}], samples=0)
    assert json.loads((none.folder / "samples.json").read_text()) == {"kept": [], "dropped": [], "cleaned": []}
    assert "secret" not in (none.folder / "card.json").read_text()


def test_conversations(build: Build, tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {number}?", "output": f"Answer\r\n{number}. "} for number in range(10)]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    built = build([{"path": tmp_path / "qa.json"}])
    assert built.metrics["documents"] == 10
    first = next(document for document in built.documents if document.id == "qa/qa.json#1")
    assert first.messages is not None
    assert [(turn.role, turn.content) for turn in first.messages] == [
        ("user", "Question 0?"),
        ("assistant", "Answer\n0."),
    ]
    canonical = '[["user","Question 0?"],["assistant","Answer\\n0."]]'
    assert first.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_few_documents_leave_splits_empty_and_say_so(build: Build, folder: Path) -> None:
    notes = Notes()
    one = build([{"path": folder / "00.txt"}], monitor=notes)
    assert [len(documents) for documents in one.splits.values()] == [1, 0, 0]
    assert len(notes.notes) == 2
    two = build([{"path": folder, "include": ["0[01].txt"]}])
    assert [len(documents) for documents in two.splits.values()] == [1, 0, 1]
    three = build([{"path": folder, "include": ["0[012].txt"]}])
    assert [len(documents) for documents in three.splits.values()] == [1, 1, 1]


def test_one_huge_document_is_not_the_test(build: Build, folder: Path) -> None:
    (folder / "huge.txt").write_text(random_text(30_000, random.Random(9)))
    for seed in range(5):
        built = build([{"path": folder}], seed=seed)
        assert "texts/huge.txt" in {document.id for document in built.splits["train"]}
        assert built.splits["valid"]
        assert built.splits["test"]


def test_a_shared_system_prompt_makes_no_near_duplicates(build: Build, tmp_path: Path) -> None:
    random_ = random.Random(11)
    system = {"role": "system", "content": random_text(400, random_)}
    asked = [random_text(20, random_) for _ in range(60)]
    rows = [
        [system, {"role": "user", "content": text}, {"role": "assistant", "content": random_text(20, random_)}]
        for text in asked
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    built = build([{"path": path}])
    assert built.metrics["documents"] == 60
    assert built.metrics["near_duplicate_clusters"] == 0


def test_names_that_are_not_utf_8(build: Build, folder: Path) -> None:
    (folder / "caf\udce9.txt").write_text(random_text(60, random.Random(12)))
    (folder / "na\udcefve.txt").write_bytes(b"\xff\xfe\xff")
    record = json.dumps({"text": random_text(60, random.Random(13)), "rights": "CC\ud800"})
    (folder / "a.jsonl").write_text(record + "\n" + json.dumps({"wor\ud801ds": 1}) + "\n")
    built = build([{"path": folder, "columns": {"licence": "rights"}}])
    named = {document.id: document for document in built.documents}
    assert "texts/caf\\udce9.txt" in named
    assert named["texts/a.jsonl#1"].licence == "CC\\ud800"
    dropped = json.loads((built.folder / "card.json").read_text())["dropped_named"]
    assert dropped["wrong encoding"][0]["id"] == "texts/na\\udcefve.txt"
    assert "wor\\ud801ds" in dropped["malformed record"][0]["detail"]
    with pytest.raises(LlmtuneError) as caught:
        build([{"path": folder, "include": ["na*"]}], on_error="fail")
    assert "na\\udcefve.txt" in str(caught.value).encode().decode()


def test_links_and_closed_folders_are_counted(build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder.parent / "elsewhere.txt"
    elsewhere.write_text(random_text(60, random.Random(14)))
    (folder / "inside.txt").symlink_to(folder / "00.txt")
    (folder / "out.txt").symlink_to(elsewhere)
    (folder / "gone.txt").symlink_to(folder / "nothing.txt")
    for name in ("closed", ".hidden"):
        (folder / name).mkdir()
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if not isinstance(path, int) and Path(path).name in ("closed", ".hidden"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    notes = Notes()
    built = build([{"path": folder}], monitor=notes)
    assert built.metrics["dropped"] == {"exact duplicate": 1, "link not followed": 1, "unreadable file": 2}
    dropped = json.loads((built.folder / "card.json").read_text())["dropped_named"]
    assert [entry["id"] for entry in dropped["unreadable file"]] == ["texts/closed", "texts/gone.txt"]
    assert any("link not followed: texts/out.txt" in note for note in notes.notes)
    with pytest.raises(LlmtuneError, match="leads nowhere"):
        build([{"path": folder, "exclude": ["closed"]}], on_error="fail")
    assert build([{"path": folder, "exclude": ["closed", "gone.txt"]}], on_error="fail").metrics["documents"] == 20


def test_what_is_no_file_or_cannot_be_reached_is_counted(
    build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe; and what is in a folder that may be listed, but not entered. What nobody would read is passed over."""
    for name in ("pipe.txt", "agent.sock", "pipe"):
        os.mkfifo(folder / name)
    for name in ("link.txt", "link"):
        (folder / name).symlink_to("pipe")
    (folder / "listed" / "inner").mkdir(parents=True)
    (folder / "listed" / "page.txt").write_text("A page.")
    lstat, stat = Path.lstat, Path.stat

    def refusing(of: Any) -> Any:
        def looked_at(path: Path, **options: Any) -> Any:
            if path.parent.name == "listed":
                raise PermissionError(13, "Permission denied", str(path))
            return of(path, **options)

        return looked_at

    monkeypatch.setattr(Path, "lstat", refusing(lstat))
    monkeypatch.setattr(Path, "stat", refusing(stat))
    built = build([{"path": folder}])
    assert built.metrics["dropped"] == {"unreadable file": 3}
    dropped = json.loads((built.folder / "card.json").read_text())["dropped_named"]["unreadable file"]
    assert [(one["id"], one["detail"]) for one in dropped] == [
        ("texts/link.txt", "a device, a socket or a pipe"),
        ("texts/listed/page.txt", "Permission denied"),
        ("texts/pipe.txt", "a device, a socket or a pipe"),
    ]
    with pytest.raises(LlmtuneError, match=r"page\.txt.*Permission denied"):
        build([{"path": folder, "exclude": ["pipe.txt", "link.txt"]}], on_error="fail")


def test_runs_inside_a_source_are_none_of_its_documents(build: Build, folder: Path) -> None:
    before = build([{"path": folder}])
    for top in ("runs", "."):  # `--runs .`, too
        for place in (".artifacts/ab", "mine/01-corpus", "plain"):
            (folder / top / place).mkdir(parents=True)
            (folder / top / place / "log.txt").write_text(random_text(80, random.Random(f"{top}{place}")))
        (folder / top / "mine" / "lock").touch()
    names = {document.id for document in build([{"path": folder}]).documents}
    assert names == {document.id for document in before.documents} | {"texts/plain/log.txt", "texts/runs/plain/log.txt"}
    assert build([{"path": folder / "runs" / "mine"}]).metrics["documents"] == 1  # as who points there wishes


def test_a_glob_below_folders_with_brackets_in_their_names(build: Build, tmp_path: Path) -> None:
    inner = tmp_path / "work [1]" / "docs*"
    inner.mkdir(parents=True)
    (inner / "a.txt").write_text(random_text(60, random.Random(16)))
    (inner / "a.md").write_text(random_text(60, random.Random(17)))
    assert [document.id for document in build([{"path": inner / "*.txt"}]).documents] == ["docs*/a.txt"]
    assert build([{"path": inner.parent / "d*/*.md"}]).metrics["documents"] == 1
    with pytest.raises(LlmtuneError, match="did you mean"):
        build([{"path": tmp_path / "work [1]" / "dcs"}])


def test_a_missing_source_in_a_folder_that_may_not_be_listed(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(LlmtuneError, match="source does not exist"):
        build([{"path": tmp_path / "gone"}])


def test_a_source_that_is_no_file(build: Build, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(LlmtuneError, match="a device, a socket or a pipe"):
        build([{"path": tmp_path / "pipe.txt"}], on_error="fail")


def test_names_cannot_write_to_a_terminal(build: Build, folder: Path) -> None:
    (folder / "\x1b[2J\n\u202ered.txt").write_text(random_text(60, random.Random(15)))
    (folder / "\x07.txt").write_text("")
    notes = Notes()
    built = build([{"path": folder}], monitor=notes)
    assert "texts/\\x1b[2J\\n\\u202ered.txt" in {document.id for document in built.documents}
    assert any("texts/\\x07.txt" in note for note in notes.notes)
    assert "\x07" not in "".join(notes.notes)


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    documents = [Document(f"d{n}", f"text {n}", None, "s", None, "0", "0") for n in range(5)]
    write_split(tmp_path, "train", documents, rows_per_shard=2)
    assert count(tmp_path, "train") == 5
    (tmp_path / "train" / "00002.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadArtifact, match=r"00002\.parquet.*damaged"):
        count(tmp_path, "train")
    (tmp_path / "train" / "00001.parquet").unlink()
    for look in (count, lambda *place: list(read_split(*place))):
        with pytest.raises(BadArtifact, match=r"00001\.parquet of the corpus is missing"):
            look(tmp_path, "train")


def test_a_reader_that_fails_costs_one_file(build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtune.corpus.readers.text import TextReader

    read = TextReader.read

    def fails(self: TextReader, path: Path, source: Any) -> Any:
        if path.name == "07.txt":
            raise ZeroDivisionError("division by zero")
        return read(self, path, source)

    monkeypatch.setattr(TextReader, "read", fails)
    built = build([{"path": folder}])
    assert len(built.documents) == 19
    named = json.loads((built.folder / "card.json").read_text())["dropped_named"]
    assert named == {"damaged file": [{"id": "texts/07.txt", "detail": "ZeroDivisionError: division by zero"}]}
    with pytest.raises(LlmtuneError, match="damaged file"):
        build([{"path": folder}], on_error="fail")


def test_parts_of_one_document_stand_on_one_side(build: Build, tmp_path: Path) -> None:
    draw = random.Random(9)
    books = {f"book {number}": [random_text(60, draw) for _ in range(4)] for number in range(60)}
    rows = [{"text": text, "meta": {"book": book}} for book, texts in books.items() for text in texts]
    draw.shuffle(rows)
    rows += [{"text": random_text(60, draw), "meta": {"book": None}}, {"text": "x " * 99, "meta": {"book": [1]}}]
    files = [tmp_path / "records" / f"{number}.jsonl" for number in range(2)]
    files[0].parent.mkdir()
    for number, file in enumerate(files):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[number::2]))
    source = {"path": tmp_path / "records", "columns": {"document": "meta.book"}}
    for near in (0.8, None):
        built = build([source], near_duplicates=near)
        assert built.metrics["dropped"] == {"malformed record": 1}
        sides = {split: {document.group for document in documents} for split, documents in built.splits.items()}
        assert all(sides.values())
        assert not sides["train"] & (sides["valid"] | sides["test"])
        of_text = {document.text: document.group for document in built.documents}
        assert all(len({of_text[text] for text in texts}) == 1 for texts in books.values())


def test_what_two_say_alike_joins_all_that_they_say(build: Build, tmp_path: Path) -> None:
    draw = random.Random(4)
    shared = random_text(60, draw)
    rows = [{"text": random_text(60, draw), "user": f"\ud800{number // 2}"} for number in range(80)]
    rows += [{"text": shared, "user": 7}, {"text": shared, "user": 8.0}]
    rows += [{"text": random_text(60, draw), "user": user} for user in (7.0, 8)]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": tmp_path / "said.jsonl", "columns": {"document": "user"}}
    for near in (0.8, None):
        built = build([source], near_duplicates=near)
        assert built.metrics["dropped"] == {"exact duplicate": 1}
        groups = {document.id.partition("#")[2]: document.group for document in built.documents}
        assert len({groups[number] for number in ("81", "83", "84")}) == 1
        assert len(set(groups.values())) == 41
    source["columns"] = {"document": "usr"}
    with pytest.raises(LlmtuneError, match="no record has anything in the column 'usr'") as raised:
        build([source])
    assert raised.value.where == "source 'said'"

"""Documents keep their split when others are added, and near-copies never stand on both sides."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from llmtune.corpus.build import build_corpus
from llmtune.corpus.duplicates import Entry
from llmtune.corpus.earlier import Earlier, Placed, keep_splits, splits_of
from llmtune.corpus.settings import CorpusSettings
from llmtune.corpus.store import SPLITS, read_split
from llmtune.errors import BadArtifact
from llmtune.machine import this_machine
from llmtune.stages.corpus import CorpusStage

from .conftest import Build, changed, random_text


def write_records(path: Path, records: list[tuple[str, str]]) -> None:
    """Records of (family, text); texts of a family are near-copies of each other."""
    path.write_text("".join(json.dumps({"text": text, "family": family}) + "\n" for family, text in records))


def made(place: Path, sources: list[Path], earlier: Path | None = None) -> dict[str, str]:
    """text → split of a corpus of these files, built into `place`."""
    place.mkdir()
    settings = CorpusSettings(
        sources=[{"path": path} for path in sources],
        near_duplicate_action="keep",
        split={"valid": 0.1, "test": 0.1, "earlier": earlier},
    )
    build_corpus(settings, place, place.parent / f"{place.name}-work", seed=3)
    return {document.text or "": split for split in SPLITS for document in read_split(place, split)}


@pytest.mark.parametrize("documents", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_copy_across_splits_and_no_document_moves(tmp_path: Path, documents: int) -> None:
    draw = random.Random(documents)
    old = [(f"old-{number}", random_text(80, draw)) for number in range(documents)]
    copies = [(family, changed(text, 0.04, draw)) for family, text in draw.sample(old, documents // 10)]
    half = len(old) // 2
    write_records(tmp_path / "one.jsonl", old[:half] + copies[::2])
    write_records(tmp_path / "two.jsonl", old[half:] + copies[1::2])
    before = made(tmp_path / "first", [tmp_path / "one.jsonl", tmp_path / "two.jsonl"])

    # a tenth more: new ones, copies of old ones of all splits, and joins of two old ones
    fresh = [(f"new-{number}", random_text(80, draw)) for number in range(documents // 20)]
    late = [(family, changed(text, 0.04, draw)) for family, text in draw.sample(old, documents // 20)]
    pairs = [draw.sample(old, 2) for _ in range(documents // 50)]
    joins = [(f"{one[0]}+{other[0]}", f"{one[1]}\n\n{other[1]}") for one, other in pairs]
    write_records(tmp_path / "added.jsonl", fresh + late + joins)
    files = [tmp_path / name for name in ("added.jsonl", "one.jsonl", "two.jsonl")]
    after = made(tmp_path / "second", files, earlier=tmp_path / "first")

    assert len(before) == len(old) + len(copies)
    assert {text: after[text] for text in before} == before
    splits: dict[str, set[str]] = {}
    for family, text in old + copies + fresh + late:
        if text in after:
            splits.setdefault(family, set()).add(after[text])
    assert all(len(found) == 1 for found in splits.values())
    between = {text for (one, other), (_, text) in zip(pairs, joins, strict=True) if before[one[1]] != before[other[1]]}
    joined = {family for pair in pairs for family, _ in pair}
    assert between
    assert not between & set(after)
    assert {text for family, text in fresh + late if family not in joined} <= set(after)
    card = json.loads((tmp_path / "second" / "card.json").read_text())
    assert card["dropped"]["between splits"] == len(before) + len(fresh + late + joins) - len(after)
    for split, share in (("valid", 0.1), ("test", 0.1)):
        assert sum(len(text) for text in after if after[text] == split) / sum(map(len, after)) == pytest.approx(
            share, rel=0.25
        )


def test_a_run_stands_for_its_corpus(
    build: Build, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build([{"path": folder}]).folder
    run = tmp_path / "runs" / "mine"
    (run / "00-base").mkdir(parents=True)
    (run / "00-base" / "stage.json").write_text('{"kind": "model", "artifact": "aa"}')
    (run / "01-corpus").mkdir()
    (run / "01-corpus" / "stage.json").write_text('{"kind": "corpus", "artifact": "bb"}')
    (tmp_path / "runs" / ".artifacts").mkdir()
    corpus.rename(tmp_path / "runs" / ".artifacts" / "bb")
    assert len(splits_of(run).by_hash) == len(splits_of(run).by_id) == 20
    trial = tmp_path / "runs" / "study" / "trials" / "3"
    shutil.copytree(run, trial)
    monkeypatch.chdir(trial)
    assert len(splits_of(Path(".")).by_id) == 20
    with pytest.raises(BadArtifact, match="is no corpus, nor a run"):
        splits_of(folder)
    (run / "01-corpus" / "stage.json").write_text("[]")
    with pytest.raises(BadArtifact, match="damaged record of a stage"):
        splits_of(run)


def test_the_earlier_splits_are_part_of_the_identity(build: Build, folder: Path) -> None:
    first, second = (build([{"path": folder}], seed=seed).folder for seed in (1, 2))

    def stage(earlier: Path | None) -> CorpusStage:
        return CorpusStage.model_validate({"sources": [{"path": folder}], "split": {"earlier": earlier}})

    identities = [json.dumps(stage(earlier).identity()) for earlier in (None, first, second)]
    assert len(set(identities)) == 3
    assert not any(str(folder.parent) in identity for identity in identities)
    (problem,) = stage(folder).plan({}, this_machine()).problems
    assert problem.startswith("split.earlier: ")
    again = build([{"path": folder}], seed=9, split={"earlier": first})
    assert {document.id: split for split, found in again.splits.items() for document in found} == {
        document.id: split for split in SPLITS for document in read_split(first, split)
    }


def test_a_document_whose_text_changes_keeps_its_split(build: Build, folder: Path) -> None:
    """A footer that more documents have now is taken out of all of them; others are edited."""
    footer = "\n\nThis page was written by the team that writes these pages, all of them.\n"
    for number, path in enumerate(sorted(folder.iterdir())):
        path.write_text(path.read_text() + (footer if number < 12 else ""))
    first = build([{"path": folder}], clean={"boilerplate": None}, split={"valid": 0.2, "test": 0.2})
    again = build([{"path": folder}], split={"valid": 0.2, "test": 0.2, "earlier": first.folder})
    assert sum("team" in (document.text or "") for document in again.documents) == 1
    assert {document.id: split for split, found in again.splits.items() for document in found} == {
        document.id: split for split, found in first.splits.items() for document in found
    }


def test_older_documents_outlive_a_new_one_between_them(build: Build, folder: Path) -> None:
    draw = random.Random(1)
    (folder / "large.txt").write_text(large := random_text(700, draw))  # larger than a held-out split: in train
    first = build([{"path": folder}], split={"valid": 0.2, "test": 0.2})
    assert "texts/large.txt" in {document.id for document in first.splits["train"]}
    (folder / "+first.txt").write_text(f"{changed(large, 0.01, draw)}\n\n{first.splits['test'][0].text}")
    again = build([{"path": folder}], split={"valid": 0.2, "test": 0.2, "earlier": first.folder})
    assert {document.id for document in again.documents} == {document.id for document in first.documents}


def grown(folder: Path, text: str) -> None:
    (folder.parent / "more").mkdir()
    (folder.parent / "more" / "join.txt").write_text(text)


@pytest.mark.parametrize("why", ["exact duplicate", "known document", "repeated paragraphs"])
def test_what_is_left_out_for_another_reason_stays_out(build: Build, tmp_path: Path, why: str) -> None:
    """A new document between two splits brings nothing back with it."""
    draw = random.Random(5)
    folder = tmp_path / "pages"
    folder.mkdir()
    paragraphs = [[random_text(60, draw).replace("\n", " ") for _ in range(8)] for _ in range(30)]
    for number, of_page in enumerate(paragraphs):
        (folder / f"{number:02d}.txt").write_text("\n\n".join(of_page))
    (folder / "zz.txt").write_text("\n\n".join(of_page[3] for of_page in paragraphs[:8]))
    split = {"valid": 0.2, "test": 0.2}
    first = build([{"path": folder}], split=split)
    sides = {document.id: side for side, documents in first.splits.items() for document in documents}
    (quoting,) = [document for document in first.documents if document.id == "pages/zz.txt"]
    other = next(one for one in first.documents if sides[one.id] not in (sides[quoting.id], "valid"))
    sources = [{"path": folder}, {"path": tmp_path / "more"}]
    grown(folder, f"{quoting.text}\n\n{other.text}")
    more = {}
    if why == "exact duplicate":
        (tmp_path / "more" / "copy.txt").write_text(quoting.text or "")
    elif why == "known document":
        (tmp_path / "known.txt").write_text(quoting.text or "")
        more = {"known": [tmp_path / "known.txt"]}
    else:
        more = {"repeated_paragraphs": 20}
    again = build(sources, split={**split, "earlier": first.folder}, **more)
    # Where `zz` is not in the corpus at all, what holds it is between nothing.
    assert again.metrics["dropped"] == {why: 1} | ({} if why == "known document" else {"between splits": 1})
    assert all(document.text for document in again.documents)
    left = "".join(document.text or "" for document in again.documents)
    assert all(paragraph in left for of_page in paragraphs for paragraph in of_page)  # none went with `join`


def test_records_that_take_the_ids_of_others_are_new(tmp_path: Path) -> None:
    """A file that grows at its beginning: near-copies of documents of training take their ids, and join them."""
    draw = random.Random(6)
    old = [(f"{number}", random_text(120, draw)) for number in range(60)]
    write_records(tmp_path / "log.jsonl", old)
    before = made(tmp_path / "first", [tmp_path / "log.jsonl"])
    trained = [(family, text) for family, text in old if before[text] == "train"][:15]
    write_records(tmp_path / "log.jsonl", [(family, changed(text, 0.06, draw)) for family, text in trained] + old)
    after = made(tmp_path / "second", [tmp_path / "log.jsonl"], earlier=tmp_path / "first")
    assert {text: after[text] for text in before} == before
    assert {after[text] for text in after if text not in before} == {"train"}


def test_an_old_document_is_no_copy_of_a_new_one(build: Build, folder: Path) -> None:
    """Whatever their order."""
    first = build([{"path": folder}])
    (folder / "+new.txt").write_text(changed((folder / "05.txt").read_text(), 0.02, random.Random(1)))
    again = build([{"path": folder}], split={"earlier": first.folder})
    assert {document.id for document in again.documents} == {document.id for document in first.documents}


@pytest.mark.parametrize("repeated", [None, 20])
def test_old_documents_come_before_new_ones(build: Build, folder: Path, repeated: int | None) -> None:
    """Edited ones, of which a new document is an exact copy, or whose paragraphs it has, and which stands first."""
    split = {"valid": 0.2, "test": 0.2}
    first = build([{"path": folder}], split=split)
    draw = random.Random(8)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.write_text(f"{path.read_text()}\n\n{random_text(10, draw)}")
        more = f"\n\n{random_text(300, draw)}" if repeated else ""
        (folder / f"+{number}.txt").write_text(f"{path.read_text()}{more}")
    again = build([{"path": folder}], split={**split, "earlier": first.folder}, repeated_paragraphs=repeated)
    found = {document.id: document for document in again.documents}
    for path in folder.iterdir():
        if not path.name.startswith("+"):
            assert found[f"texts/{path.name}"].text == path.read_text().strip()
    assert len(found) == (40 if repeated else 20)


def test_what_is_left_out_decides_no_split() -> None:
    """An old document of `test` that was edited into a copy of one of `train`, and is dropped as such, does not part
    their group: what is new in it stays."""
    train, edited, new = (Entry(id, id * 8, 0, 100, 100, None, "group") for id in ("train", "edited", "new"))
    edited.left_out = ("near duplicate", "train")
    earlier = Earlier({train.sha256: "train"}, {"train": (train.sha256, "train"), "edited": ("before", "test")})
    entries = [train, edited, new]
    for settled in (False, True):
        assert keep_splits(entries, Placed(earlier, entries), settled) == {"group": "train"}
        assert (new.left_out, new.group) == (None, "group")


def test_a_missing_split_of_the_earlier_corpus_is_named(build: Build, folder: Path) -> None:
    first = build([{"path": folder}]).folder
    for shard in (first / "test").iterdir():
        shard.unlink()
    with pytest.raises(BadArtifact, match="no 'test' split"):
        splits_of(first)

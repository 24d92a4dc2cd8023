"""The whole of it: what is added and where, what all documents together decide, and what a kill costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmtune.augment.instruct import gate, sheet
from llmtune.augment.instruct.build import instruct
from llmtune.augment.instruct.settings import InstructSettings
from llmtune.corpus.store import Document, read_split
from llmtune.errors import LlmtuneError
from llmtune.files import files_below, read_json, sha256_file
from llmtune.monitor import Monitor
from llmtune.section import read_section
from tests.augment.corpora import chat, corpus_of, document
from tests.augment.instruct.manual import SPANISH, TUNING, VACUUM


def page(number: int) -> Document:
    """A page whose pairs are its own; a corpus' split has it as `number`."""
    text = VACUUM.replace("VACUUM", f"COMMAND_{number}").replace("storage", f"storage of {number} kinds")
    text = text.replace("specific table", f"specific table {number}").replace("full vacuum", f"full vacuum {number}")
    return document(f"docs/{number}.md", text, licence="MIT")


DOCUMENTS = [*(page(number) for number in range(5)), document("docs/tuning.md", TUNING), chat(1)]


def made(folder: Path, documents: list[Document] = DOCUMENTS, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """The folder with the pairs, and the metrics."""
    if not (folder / "corpus").exists():
        corpus_of(folder / "corpus", documents)
    output = folder / "output"
    changed = InstructSettings.model_validate({"subject": "MyBase"} | settings)
    return output, instruct(folder / "corpus", changed, output, folder / "work", 3)


def pairs_in(output: Path, split: str = "train") -> list[Document]:
    return [one for one in read_split(output, split) if one.origin]


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in files_below(folder)}


def test_what_is_added_and_what_stays(tmp_path: Path) -> None:
    corpus_of(tmp_path / "corpus", DOCUMENTS)
    output, metrics = made(tmp_path)
    train = list(read_split(output, "train"))
    assert train[: len(DOCUMENTS)] == DOCUMENTS
    pairs = train[len(DOCUMENTS) :]
    by_id = {one.id: one for one in DOCUMENTS}
    assert len(pairs) == metrics["pairs"]["train"] > 15
    for pair in pairs:
        origin = by_id[str(pair.origin)]
        assert (pair.source, pair.licence, pair.group) == (origin.source, origin.licence, origin.group)
        assert pair.messages is not None
        assert [message.role for message in pair.messages] == ["user", "assistant"]
    assert len({one.id for one in train}) == len(train)
    assert {one.origin for one in pairs} == {one.id for one in DOCUMENTS if one.text}
    card = read_json(output / "card.json")
    for split in ("train", "valid", "test"):
        found = list(read_split(output, split))
        texts = [one.text or "\n\n".join(turn.content for turn in one.messages or ()) for one in found if one.origin]
        sizes, before = card["splits"][split], read_json(tmp_path / "corpus" / "card.json")["splits"][split]
        assert sizes["documents"] == len(found)
        assert sizes["characters"] == before["characters"] + sum(map(len, texts))
        assert sizes["bytes"] == before["bytes"] + sum(len(text.encode()) for text in texts)
    assert card["licences"] == {"MIT": 9 + metrics["pairs"]["total"]}
    assert card["instruct"]["documents"] == {"read": 8, "not in English": 0}


def test_a_pair_of_a_held_out_document_stays_with_it(tmp_path: Path) -> None:
    """Those of train do not say what they say."""
    output, metrics = made(tmp_path)
    held_out = pairs_in(output, "valid") + pairs_in(output, "test")
    assert len(held_out) == metrics["pairs"]["valid"] + metrics["pairs"]["test"] > 0
    assert {one.origin for one in pairs_in(output, "valid")} == {"docs/100.md"}
    answers = {one.messages[-1].content for one in pairs_in(output) if one.messages}
    assert not answers & {one.messages[-1].content for one in held_out if one.messages}


def test_what_all_documents_decide_together(tmp_path: Path) -> None:
    """A question with two answers is dropped, an answer that stands twice comes once, and both are told."""
    text = (
        "# {}\n\n## Locks\n\nA lock is held until the {} ends, and then the next one takes it.\n\n## {} of rows\n\n{}"
    )
    same = "Every row has a number that it keeps for as long as it lives."
    documents = [
        document(f"{number}.md", text.format("Waiting", end, name, same))
        for number, (end, name) in enumerate([("session", "Numbers"), ("statement", "Numbering")])
    ]
    output, metrics = made(tmp_path, documents)
    answers = [one.messages[-1].content for one in pairs_in(output) if one.messages]
    assert answers == [same]
    dropped = metrics["pairs_dropped"]
    assert (dropped[gate.TWICE], dropped[gate.SAID]) == (2, 1)


def test_no_document_gives_too_many(tmp_path: Path) -> None:
    output, metrics = made(tmp_path, pairs_per_document=2)
    counts = [sum(one.origin == document.id for one in pairs_in(output)) for document in DOCUMENTS if document.text]
    assert set(counts) == {2}
    assert metrics["pairs_dropped"][gate.MORE] > 0
    rules = {one.id.split("#instruct-")[1].split("-")[0] for one in pairs_in(output)}
    assert len(rules) == 2  # the rules in turn


@pytest.mark.parametrize(("share", "often"), [(0.05, 1.0), (0.5, None), (0.95, 4.0)])
def test_the_share_of_what_training_reads(tmp_path: Path, share: float, often: float | None) -> None:
    """By fewer pairs, by reading them more often, or at most four times."""
    output, metrics = made(tmp_path, share=share)
    train = list(read_split(output, "train"))

    def read(made: bool) -> float:
        texts = [one for one in train if (one.origin is not None) == made]
        return sum(one.repeats * len(one.text or "".join(turn.content for turn in one.messages or ())) for one in texts)

    got = read(True) / (read(True) + read(False))
    if often == 4.0:
        assert {one.repeats for one in pairs_in(output)} == {4.0}
        assert got < share
    else:
        assert got == pytest.approx(share, abs=0.03)
    if often == 1.0:
        assert metrics["pairs_dropped"][gate.SHARE] > 0
        assert {one.repeats for one in pairs_in(output)} == {1.0}


def test_pairs_alone(tmp_path: Path) -> None:
    output, _ = made(tmp_path, keep_documents=False, system="You know MyBase.")
    for split in ("train", "valid", "test"):
        found = list(read_split(output, split))
        assert found
        assert {one.messages[0].content for one in found if one.messages} == {"You know MyBase."}
        card = read_json(output / "card.json")["splits"][split]
        assert card["documents"] == len(found)
        assert card["groups"] == len({one.group for one in found})
        assert card["characters"] == sum(len("\n\n".join(m.content for m in one.messages or ())) for one in found)


class Killed(Monitor):
    """Ends the job at its n-th safe point, counting what was done."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, 0

    def safe_point(self) -> None:
        self.seen += 1
        if self.seen > self.after:
            raise KeyboardInterrupt


def test_killed_again_and_again_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "_PART_CHARACTERS", 1500)
    whole, _ = made(tmp_path / "whole")
    corpus_of(tmp_path / "killed" / "corpus", DOCUMENTS)
    documents = 0
    while True:
        monitor = Killed(after=2)
        try:
            settings = InstructSettings(subject="MyBase")
            place = tmp_path / "killed"
            instruct(place / "corpus", settings, place / "output", place / "work", 3, monitor)
            break
        except KeyboardInterrupt:
            documents += monitor.seen
    assert 8 < documents < 20  # at most the part that was at work is done again
    assert hashes(tmp_path / "killed" / "output") == hashes(whole)


def test_a_work_folder_serves_other_settings_and_other_documents(tmp_path: Path) -> None:
    """None gets the pairs of another."""
    for number, (subject, documents) in enumerate([("MyBase", DOCUMENTS), ("Other", DOCUMENTS), ("Other", [page(9)])]):
        corpus_of(tmp_path / "corpus", documents)
        fresh, again = tmp_path / f"fresh{number}", tmp_path / f"again{number}"
        settings = InstructSettings(subject=subject)
        expected = instruct(tmp_path / "corpus", settings, fresh, tmp_path / f"work{number}", 3)
        assert instruct(tmp_path / "corpus", settings, again, tmp_path / "work", 3) == expected
        assert hashes(again) == hashes(fresh)


def test_what_cannot_be_done_is_told(tmp_path: Path) -> None:
    output, _ = made(tmp_path)
    with pytest.raises(LlmtuneError, match="holds pairs made from its documents already"):
        instruct(output, InstructSettings(), tmp_path / "again", tmp_path / "work2", 3)
    with pytest.raises(LlmtuneError, match="no pair could be made"):
        made(tmp_path / "none", [document("a.md", "No structure, and no heading either, is to be found in here.")])
    with pytest.raises(LlmtuneError, match="× answer too short"):
        made(tmp_path / "short", DOCUMENTS, min_answer=1190)


def test_the_report_shows_pairs_and_reasons(tmp_path: Path) -> None:
    output, metrics = made(tmp_path, [*DOCUMENTS, document("es.md", SPANISH)], samples=4)
    section = read_section(output)
    assert section is not None
    assert f"{metrics['pairs']['total']:,} pairs" in section.summary
    assert "1 documents are not in English" in section.summary
    rules, dropped = section.tables
    assert dict(rules.rows) == metrics["pairs_by_rule"]  # type: ignore[arg-type]
    assert {row[0]: row[1] for row in dropped.rows} == metrics["pairs_dropped"]
    kept, left = section.texts
    assert {row[0] for row in kept.rows} == {"headings", "definitions", "code"}
    assert gate.NOT_ALONE in {row[0] for row in left.rows}
    samples = read_json(output / "samples.json")
    assert len(samples["kept"]) == len(samples["dropped"]) == 4
    bare, _ = made(tmp_path / "bare", samples=0)
    assert "reclaims" not in (bare / "samples.json").read_text() + (bare / "section.json").read_text()

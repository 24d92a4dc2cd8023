"""Every setting of the `corpus` stage is read: change it, and the stage makes other documents, or refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from llmtune.corpus.settings import Format, Layout
from llmtune.corpus.store import SPLITS, read_split
from llmtune.errors import LlmtuneError
from llmtune.files import read_json
from llmtune.stages.corpus import CorpusStage
from llmtune.stages.stage import Context
from tests.corpus.conftest import changed, random_text
from tests.stages.fields import WIRING, paths_of, with_setting

# setting → (what is read: a name in the folder of `place`, the changed value)
CHANGES: dict[str, tuple[str, Any]] = {
    "sources.path": ("texts", "more"),
    "sources.format": ("texts", "text"),
    "sources.name": ("texts", "renamed"),
    "sources.licence": ("texts", "CC0-1.0"),
    "sources.include": ("texts", ["1*.txt"]),
    "sources.exclude": ("texts", ["1*.txt"]),
    "sources.encoding": ("texts", "cp850"),
    "sources.layout": ("both.jsonl", "text"),
    "sources.columns.text": ("text.jsonl", "body"),
    "sources.columns.title": ("text.jsonl", "heading"),
    "sources.columns.licence": ("text.jsonl", "terms"),
    "sources.columns.messages": ("both.jsonl", "talk"),
    "sources.columns.role": ("both.jsonl", "who"),
    "sources.columns.content": ("both.jsonl", "said"),
    "sources.columns.instruction": ("alpaca.jsonl", "task"),
    "sources.columns.input": ("alpaca.jsonl", "material"),
    "sources.columns.output": ("alpaca.jsonl", "reply"),
    "sources.columns.system": ("alpaca.jsonl", "rule"),
    "clean.mojibake": ("dirty", False),
    "clean.hyphens": ("dirty", False),
    "clean.boilerplate": ("dirty", None),
    "clean.pii.email": ("dirty", "keep"),
    "clean.pii.phone": ("dirty", "drop"),
    "clean.pii.ip": ("dirty", "mask"),
    "clean.pii.key": ("dirty", "keep"),
    "clean.pii.private_key": ("dirty", "drop"),
    "clean.pii.credit_card": ("dirty", "keep"),
    "clean.pii.iban": ("dirty", "drop"),
    "clean.pii.national_id": ("dirty", "keep"),
    "min_characters": ("texts", 500),
    "near_duplicates": ("texts", 1),
    "near_duplicate_action": ("texts", "keep"),
    "known": ("texts", ["texts/00.txt"]),
    "split.valid": ("texts", 0.4),
    "split.test": ("texts", 0.4),
    "split.max_characters": ("texts", 300),
}
# What the clean-up changes, a line for one document each.
DIRT = (
    "Ein schÃ¶ner Tag.", "The manage-\nment of it.", "Our management.", "jane@acme.com", "+49 30 2345678",
    "from 93.184.55.6", "token ghp_16C7e42F292c6912E7710c838347Ae178B4a", "Visa 4539 5787 6362 1486",
    "IBAN NL91 ABNA 0417 1643 00", "AHV 756.9217.0769.85",
    f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0B' * 4}\n-----END PRIVATE KEY-----",
)  # fmt: skip
# Those with a test of their own: below, and in tests/corpus/test_build.py, test_archives.py, test_places.py,
# test_contamination.py, test_earlier.py, test_engine.py, test_mixture.py, test_reader_csv.py, test_shelf.py.
ELSEWHERE = {
    "sources.delimiter", "sources.columns.document", "engine", "workers", "reuse", "repeated_paragraphs",
    "on_error", "samples", "decontaminate.against", "decontaminate.words", "decontaminate.action", "split.earlier",
    "sources.storage", "sources.unpack.max_file_bytes", "sources.unpack.max_total_bytes", "sources.unpack.max_ratio",
    "sources.unpack.max_files", "sources.repeats", "sources.share", "sources.max_characters", "temperature",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("LLMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of texts and three files of records, each with a second column for everything."""
    place, random_ = tmp_path_factory.mktemp("place"), random.Random(11)

    def text(words: int = 40) -> str:
        return random_text(words, random_)

    for folder in ("texts", "more"):
        (place / folder).mkdir()
        for number in range(20):
            (place / folder / f"{number:02d}.txt").write_text(text(30 + 5 * number))
    (place / "dirty").mkdir()
    for number in range(20):
        dirt = DIRT[number] if number < len(DIRT) else ""
        footer = "Acme Handbook, for those who work with us, and for nobody else"
        (place / "dirty" / f"{number:02d}.txt").write_text(f"{text()}\n{dirt}\n\n{footer}")
    texts = place / "texts"
    (texts / "copy.txt").write_text(changed((texts / "19.txt").read_text(), 0.02, random_))
    (texts / "short.txt").write_text(text(10))
    (texts / "latin.txt").write_bytes(("naïve café " + text()).encode("latin-1"))
    (texts / "page.html").write_text(f"<html><body><p>{text()}</p></body></html>")
    alpaca = ("instruction", "task", "input", "material", "output", "reply", "system", "rule")
    rows: dict[str, Callable[[], dict[str, Any]]] = {
        "text.jsonl": lambda: {"text": text(), "body": text(), "heading": text(10), "terms": "MIT"},
        "both.jsonl": lambda: {"text": text(), "messages": _turns(text), "talk": _turns(text)},
        "alpaca.jsonl": lambda: {column: text() for column in alpaca},
    }
    for name, row in rows.items():
        (place / name).write_text("".join(json.dumps(row()) + "\n" for _ in range(12)))
    return place


def _turns(text: Callable[[], str]) -> list[dict[str, str]]:
    """A question and its answer, and under other keys the answer and its question."""
    roles = ("user", "assistant")
    return [{"role": roles[turn], "who": roles[1 - turn], "content": text(), "said": text()} for turn in (0, 1)]


def stage_of(place: Path, what: str, path: str | None = None, value: Any = None) -> CorpusStage:
    """The stage that reads `what`, with one setting changed."""
    settings: dict[str, Any] = {
        "sources": [{"path": what}], "min_characters": 80, "split": {"valid": 0.2, "test": 0.2}
    }  # fmt: skip
    if path is not None:
        settings = with_setting(settings, path, value)
    return CorpusStage.model_validate(settings, context={"folder": place})


def made_by(stage: CorpusStage, folder: Path) -> dict[str, Any]:
    """The documents by split, and the samples, of one run."""
    output = folder / "output"
    output.mkdir(parents=True)
    stage.run({}, Context(output, folder / "work", seed=7))
    made: dict[str, Any] = {split: list(read_split(output, split)) for split in SPLITS}
    return made | {"samples": read_json(output / "samples.json")}


def documents_of(made: dict[str, Any]) -> dict[str, Any]:
    return {split: made[split] for split in SPLITS}


@pytest.fixture(scope="module")
def plain(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the stage makes of everything in the place with nothing changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("plain")
        return {what: made_by(stage_of(place, what), folder / what) for what in {what for what, _ in CHANGES.values()}}


def test_the_table_is_complete() -> None:
    here = {path for path in paths_of(CorpusStage) if not path.startswith("filters.")}  # test_corpus_filter_fields.py
    assert here == set(CHANGES) | ELSEWHERE | set(WIRING)


@pytest.mark.parametrize("path", CHANGES)
def test_setting_is_read(place: Path, plain: dict[str, dict[str, Any]], tmp_path: Path, path: str) -> None:
    what, value = CHANGES[path]
    stage = stage_of(place, what, path, value)
    assert all(documents_of(plain[what]).values())
    assert documents_of(made_by(stage, tmp_path)) != documents_of(plain[what])
    assert stage.identity() != stage_of(place, what).identity()


def test_without_a_change_the_documents_are_the_same(
    place: Path, plain: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for what, made in plain.items():
        assert made_by(stage_of(place, what), tmp_path / what) == made


def test_on_error(place: Path, tmp_path: Path) -> None:
    skips, fails = stage_of(place, "texts"), stage_of(place, "texts", "on_error", "fail")
    made = made_by(skips, tmp_path / "skip")
    assert not any("latin" in document.id for split in SPLITS for document in made[split])
    with pytest.raises(LlmtuneError, match=r"(?s)latin\.txt.*wrong encoding"):
        made_by(fails, tmp_path / "fail")
    assert skips.identity() != fails.identity()


def test_samples(place: Path, tmp_path: Path) -> None:
    stages = {count: stage_of(place, "texts", "samples", count) for count in (0, 3)}
    made = {count: made_by(stage, tmp_path / str(count)) for count, stage in stages.items()}
    assert documents_of(made[0]) == documents_of(made[3])
    assert made[0]["samples"] == {"kept": [], "dropped": [], "cleaned": []}
    assert [len(made[3]["samples"][kind]) for kind in ("kept", "dropped")] == [3, 3]
    assert stages[0].identity() != stages[3].identity()


def test_every_layout_reads_another_document(place: Path, tmp_path: Path) -> None:
    """Of one record that is all of them; ShareGPT and OpenAI conversations differ by their keys, not by the layout."""
    row = {"text": "word " * 40, "messages": _turns(lambda: "turn " * 40)}
    row |= {"instruction": "task " * 40, "output": "answer " * 40}
    (tmp_path / "all.jsonl").write_text(json.dumps(row) + "\n")
    read: dict[str, Any] = {}
    for layout in get_args(Layout):
        stage = stage_of(tmp_path, "all.jsonl", "sources.layout", layout)
        ((document, *_),) = (made for made in documents_of(made_by(stage, tmp_path / layout)).values() if made)
        read[layout] = document
    assert read["auto"] == read["openai"] == read["sharegpt"]
    assert len({repr(document) for document in read.values()}) == 4


def test_every_format_reads_another_document(tmp_path: Path) -> None:
    """Of one file that can be read as text of many kinds; the others refuse it, or know their own place."""
    (tmp_path / "file").write_text(json.dumps({"text": "<p>One <b>or</b>\n\n\n\n- two</p> " + "three " * 40}) + "\n")
    read: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for format in get_args(Format):
        if format == "python-docs":  # tests/corpus/test_readers.py
            continue
        try:
            made = made_by(stage_of(tmp_path, "file", "sources.format", format), tmp_path / format)
        except LlmtuneError as error:
            refused[format] = str(error)
            continue
        ((document, *_),) = (documents for documents in documents_of(made).values() if documents)
        read[format] = document.text
    assert "minified code" in refused.pop("code")  # one long line
    assert set(refused) == {"csv", "notebook", "parquet", "pdf", "docx", "pptx", "epub"}
    assert all("damaged file" in error for error in refused.values())
    assert read.pop("auto") == read["jsonl"]  # by its first bytes
    assert len(set(read.values())) == len(read) == 6

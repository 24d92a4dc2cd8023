"""The whole of back-translation, with engines that scramble words: what is added, what stays, and what a kill costs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtune.augment import gate
from llmtune.augment.back_translate import back_translate
from llmtune.augment.gate import Gate
from llmtune.augment.pairs import augmented_pairs
from llmtune.augment.rewrite import rewritten
from llmtune.augment.segments import Segment, pieces_of
from llmtune.augment.settings import BackTranslateSettings, KeepSettings
from llmtune.corpus.store import Document, read_split
from llmtune.errors import LlmtuneError
from llmtune.files import files_below, read_json, sha256_file
from llmtune.section import read_section
from tests.augment.corpora import chat, corpus_of, document, text
from tests.augment.engines import ScramblingEngine

LOOSE = {"min_similarity": 0.3, "max_length_ratio": 9.0, "min_changed": 0.1}
DOCUMENTS = [*(text(number) for number in range(6)), chat(1)]


def made(
    folder: Path, documents: list[Document], engine: ScramblingEngine | None = None, seed: int = 3, **changes: Any
) -> tuple[Path, dict[str, Any]]:
    """The folder of the augmented corpus, and the metrics."""
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus_of(corpus, documents)
    changed = BackTranslateSettings(**({"keep": LOOSE} | changes))
    output = folder / "output"
    return output, back_translate(corpus, changed, engine or ScramblingEngine(), output, folder / "work", seed)


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in files_below(folder)}


def test_what_is_added_and_what_stays(tmp_path: Path) -> None:
    output, metrics = made(tmp_path, DOCUMENTS)
    train = list(read_split(output, "train"))
    assert train[: len(DOCUMENTS)] == DOCUMENTS
    new = train[len(DOCUMENTS) :]
    assert [one.origin for one in new] == [one.id for one in DOCUMENTS if one.messages is None]
    for original, one in augmented_pairs(output):
        assert one.id == f"{original.id}#back-translated-es"
        assert (one.source, one.licence, one.group) == (original.source, original.licence, original.group)
        assert one.text != original.text
        assert "planner The the estimates of cost path" in str(one.text)
    for split in ("valid", "test"):
        assert hashes(tmp_path / "corpus" / split) == hashes(output / split)
    assert metrics["back_translated_documents"] == len(new) == 6
    card = read_json(output / "card.json")
    assert card["splits"]["train"]["documents"] == len(train)
    assert card["splits"]["train"]["groups"] == len({one.group for one in train})
    assert card["total"]["characters"] == sum(
        len(one.text or "") for split in ("train", "valid", "test") for one in read_split(output, split)
    )
    assert card["licences"] == {"MIT": len(DOCUMENTS) + 2 + 6}
    assert card["back_translation"][0]["engine"] == ScramblingEngine.identity
    assert card["back_translation"][0]["sentences"]["translated"] == 6 * 5


# Pieces of a text that must come back as they are, and words between them.
protected = st.sampled_from(
    ["`a b`", "work_mem", "VACUUM", "9.33", "{a name}", "http://h.org/x?y=1", "/etc/a.conf", "--login", "foo()",
     "<b c>", "CREATE TABLE", "camelCase", "1,000", "e.g.", "50%", "$1", "[x]"]
)  # fmt: skip
prose = st.sampled_from(["the", "a", "table", "rows", "are", "read", "by", "one", "query", "of", "ours"])
tokens = st.lists(st.one_of(protected, prose), max_size=25)


@settings(max_examples=40, deadline=None)
@given(st.lists(tokens, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_protected_spans_are_unchanged_in_whatever_is_kept(paragraphs: list[list[str]], random: Any) -> None:
    """An engine that loses, doubles and moves whatever it likes."""

    def spoil(segment: str) -> str:
        words = segment.split()
        random.shuffle(words)
        return " ".join(words[random.randint(0, 1) :] + words[: random.randint(0, 1)])

    before = "\n\n".join(" ".join(words) + "." for words in paragraphs)
    sentences = [piece.masked for piece in pieces_of(before) if isinstance(piece, Segment)]
    trips = dict(zip(sentences, ScramblingEngine(spoil).round_trips(sentences), strict=True))
    after = rewritten(before, trips, Gate(KeepSettings(min_similarity=0, max_length_ratio=99))).text
    plain = Counter(token for words in paragraphs for token in words if not token.isalpha() or not token.islower())
    for span, count in plain.items():
        assert after.count(span) == before.count(span) >= count
    assert Counter(re.findall(r"\d+", after)) == Counter(re.findall(r"\d+", before))


def test_a_dropped_sentence_keeps_its_original(tmp_path: Path) -> None:
    def spoil(segment: str) -> str | None:
        return segment.replace("[1]", "") if segment.startswith("Set") else None if "Indexes" in segment else segment

    output, metrics = made(tmp_path, DOCUMENTS, ScramblingEngine(spoil))
    for original, new in augmented_pairs(output):
        number = original.id.removeprefix("docs/").removesuffix(".md")
        assert f"Set `work_mem_{number}` to {number}.5 MB before you run VACUUM on a large table." in str(new.text)
        assert "Indexes make reading of rows faster and writing of rows slower." in str(new.text)
    assert metrics["sentences_dropped"] == {gate.LOST: 6, gate.FAILED: 6}
    section = read_section(output)
    assert section is not None
    assert {(row[0], row[1]) for row in section.tables[0].rows} == {(gate.LOST, 6), (gate.FAILED, 6)}
    kept, dropped = section.texts
    assert all(row[1].startswith("pivot of ") for row in kept.rows)
    assert {row[0] for row in dropped.rows} == {gate.LOST, gate.FAILED}
    samples = read_json(output / "samples.json")
    assert {one["reason"] for one in samples["dropped"]} == {gate.LOST, gate.FAILED}
    assert {one["id"] for one in samples["kept"]} <= {one.id for one in read_split(output, "train") if one.origin}
    (chart,) = section.charts
    assert sum(chart.series["kept"]) == metrics["sentences_kept"]


def test_a_text_that_changed_too_little_is_not_added(tmp_path: Path) -> None:
    engine = ScramblingEngine(lambda segment: segment if "Indexes" in segment else None)
    output, metrics = made(tmp_path, DOCUMENTS, engine, keep=LOOSE | {"min_changed": 0.21})
    assert [one for one in read_split(output, "train") if one.origin] == []
    assert metrics["sentences_kept"] == 6
    assert read_json(output / "card.json")["back_translation"][0]["documents"]["added"] == 0


@pytest.mark.parametrize(("share", "most"), [(0.5, None), (1.0, 1900), (0.5, 1900)])
def test_share_and_limit_draw_by_content(tmp_path: Path, share: float, most: int | None) -> None:
    texts = [one for one in DOCUMENTS if one.text]
    sizes = {one.id: len(one.text or "") for one in texts}
    budget = min(share * sum(sizes.values()), most or 10**9)
    drawn = {}
    for name, documents in (("as it is", DOCUMENTS), ("other way round", DOCUMENTS[::-1])):
        output, _ = made(tmp_path / name, documents, share=share, max_characters=most)
        drawn[name] = {one.origin for one in read_split(output, "train") if one.origin}
        used = sum(sizes[str(id)] for id in drawn[name])
        assert budget - min(sizes.values()) < used <= budget
    assert drawn["as it is"] == drawn["other way round"]
    output, _ = made(tmp_path / "other seed", DOCUMENTS, share=share, max_characters=most, seed=4)
    assert {one.origin for one in read_split(output, "train") if one.origin} != drawn["as it is"]


def test_killed_at_every_group_it_ends_in_the_same_bytes_and_translates_nothing_twice(tmp_path: Path) -> None:
    whole = ScramblingEngine(together=4)
    output, _ = made(tmp_path / "whole", DOCUMENTS, whole)
    assert len(whole.seen) == len(set(whole.seen)) < 6 * 5  # some sentences stand in every text
    given_out: list[str] = []
    place = tmp_path / "killed"
    while True:
        engine = ScramblingEngine(together=4, killed_after=1)
        try:
            made(place, DOCUMENTS, engine)
        except KeyboardInterrupt:
            given_out += engine.seen
        else:
            given_out += engine.seen
            break
    assert given_out == whole.seen
    assert hashes(place / "output") == hashes(output)


def test_what_cannot_be_translated_is_told(tmp_path: Path) -> None:
    with pytest.raises(LlmtuneError, match="only conversations"):
        made(tmp_path / "chats", [chat(1), chat(2)])
    with pytest.raises(LlmtuneError, match="shortest document has"):
        made(tmp_path / "short", DOCUMENTS, max_characters=10)
    again = [text(1), replace(text(1), id="docs/1.md#back-translated-es", origin="docs/1.md")]
    with pytest.raises(LlmtuneError, match="by way of 'es' already"):
        made(tmp_path / "again", again)


def test_another_pivot_translates_the_originals_again(tmp_path: Path) -> None:
    first, _ = made(tmp_path, DOCUMENTS)
    changed = BackTranslateSettings(keep=KeepSettings(**LOOSE), pivot="ca")
    back_translate(first, changed, ScramblingEngine(), tmp_path / "second", tmp_path / "work2", 3)
    origins = Counter(one.origin for one in read_split(tmp_path / "second", "train") if one.origin)
    assert set(origins.values()) == {2}
    assert [one["pivot"] for one in read_json(tmp_path / "second" / "card.json")["back_translation"]] == ["es", "ca"]


def test_no_samples_no_text(tmp_path: Path) -> None:
    output, _ = made(tmp_path, [document("a.md", "The secret word is written here in plain. " * 4)], samples=0)
    assert "secret" not in (output / "samples.json").read_text() + (output / "section.json").read_text()

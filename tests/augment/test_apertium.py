"""Apertium: its processes with a pretended one, its translations with the real one where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from llmtune.augment import apertium
from llmtune.augment.apertium import Apertium, identity_of, mode_of, problems_of
from llmtune.augment.engine import RoundTrip
from llmtune.errors import LlmtuneError
from tests.augment.conftest import FakeApertium

real = pytest.mark.skipif(
    shutil.which("apertium") is None or bool(problems_of("en", "es")), reason="apertium-eng-spa is not installed"
)


def alive(folder: Path) -> bool:
    return bool(subprocess.run(["pgrep", "-f", str(folder / "log")], capture_output=True).stdout)


def test_segments_come_back_in_order(fake: FakeApertium) -> None:
    engine = Apertium("en", "es")
    segments = [f"number {number} of [1] many words" for number in range(100)]
    for _ in range(2):  # the same pipelines again
        trips = list(engine.round_trips(segments))
        assert [trip and trip.text for trip in trips] == [f"number of {n} [1] many words" for n in range(100)]
        assert trips[3] == RoundTrip("numbera 3a ofa [1] manya wordsa", "number of 3 [1] many words")
    assert fake.given() == segments * 2
    engine.close()
    assert not alive(fake.folder)


def test_marks_are_counted_and_taken_away(fake: FakeApertium) -> None:
    (trip,) = Apertium("en", "es").round_trips(["one stranger and stranger more"])
    assert trip == RoundTrip("onea strangera anda strangera morea", "one and stranger stranger more", unknown=2)
    assert apertium._unmarked("The *dog @ser #be, 3*4 a#b **x") == ("The dog ser be, 3*4 a#b x", 2, 2)


def test_what_ends_it_is_tried_again_and_then_given_up(fake: FakeApertium) -> None:
    engine = Apertium("en", "es")
    segments = ["one two three four", "this will DIE at once", "five six seven eight", "DIEONCE is what it does"]
    trips = list(engine.round_trips(segments))
    assert [trip is None for trip in trips] == [False, True, False, False]
    assert fake.given().count("this will DIE at once") == 3  # among others, and twice alone
    assert fake.given().count("DIEONCE is what it does") == 2
    engine.close()


def test_an_engine_that_always_dies_is_told(fake: FakeApertium) -> None:
    with pytest.raises(LlmtuneError, match=r"the filter died: apertium ended, at 3 segments one after another"):
        list(Apertium("en", "es").round_trips([f"DIE number {number} of them" for number in range(9)]))
    assert not alive(fake.folder)


def test_a_hanging_engine_is_ended(fake: FakeApertium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apertium, "_ANSWER_SECONDS", 0.5)
    engine = Apertium("en", "es")
    trips = list(engine.round_trips(["one two three four", "HANG at this one", "five six seven eight"]))
    assert [trip is None for trip in trips] == [False, True, False]
    engine.close()
    assert not alive(fake.folder)


def test_a_hanging_engine_is_ended_while_text_is_written_to_it(
    fake: FakeApertium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More text than its pipes hold: the thread that writes it is held up when the engine is to be ended."""
    monkeypatch.setattr(apertium, "_ANSWER_SECONDS", 0.5)
    engine = Apertium("en", "es")
    trips = engine.round_trips(["HANG at this one", *(f"{number} {'word ' * 390}" for number in range(256))])
    assert next(trips) is None
    trips.close()  # type: ignore[attr-defined]
    assert not alive(fake.folder)


def test_an_iteration_that_is_left_leaves_no_answer_behind(fake: FakeApertium) -> None:
    engine = Apertium("en", "es")
    first = engine.round_trips([f"left behind number {number}" for number in range(50)])
    next(first)
    first.close()  # type: ignore[attr-defined]
    (trip,) = engine.round_trips(["one two three four"])
    assert trip is not None
    assert trip.text == "one three two four"
    engine.close()


def test_identity_follows_the_data(fake: FakeApertium) -> None:
    before = identity_of("en", "es")
    assert before["version"] == "Apertium 0.1"
    (fake.folder / "share" / "eng-spa.bin").write_text("newer data")
    after = identity_of("en", "es")
    assert before != after
    assert before | {"data": after["data"]} == after
    assert str(fake.folder) not in str(after["data"])


def test_what_is_missing_is_told_in_one_message(fake: FakeApertium, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems_of("en", "fr")
    told = str(problem)
    assert "no language pair for en → fr → en: eng-fra and fra-eng not installed" in told
    assert "apt-get install apertium-eng-fra" in told
    assert "eng-spa, spa-eng" in told
    assert str(fake.modes) in told
    (fake.modes / "spa-eng.mode").unlink()
    assert "es → en: spa-eng not installed" in str(problems_of("en", "es")[0])
    with pytest.raises(LlmtuneError, match="spa-eng not installed"):
        Apertium("en", "es")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install apertium apertium-eng-spa" in str(problems_of("en", "es")[0])
    assert mode_of("eng", "ca") == "eng-cat"


@real
def test_the_real_one_keeps_placeholders_and_full_stops() -> None:
    engine = Apertium("en", "es")
    segments = [
        "The parameter [1] sets the limit for the big table.",
        "You can use [1] to open [2] (in the folder), not [3].",
        "This is frobnicated.",
        "A house; “two houses”: 3 / 4 <> {x} a\\b ^c$ @d #e ~f?",
    ] * 3  # fmt: skip
    trips = list(engine.round_trips(segments))
    engine.close()
    assert trips[:4] * 3 == trips  # nothing is remembered from one segment to the next
    first, second, third, fourth = trips[:4]
    assert first is not None
    assert second is not None
    assert third is not None
    assert fourth is not None
    assert first.pivot == "El parámetro [1] pone el límite para la mesa grande."
    assert first.text == "The parameter [1] puts the limit for the big table."
    assert all(f"[{number}]" in second.text for number in (1, 2, 3))
    assert third.unknown == 1
    assert "frobnicated" in third.text
    assert third.text.endswith(".")
    assert all(sign in fourth.text for sign in ("3", "/", "<>", "{x}", "a\\b", "^c$", "?"))

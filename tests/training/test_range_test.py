"""The learning-rate range test: its rule by hand, its result kept, and nothing of it left in the training."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmtune.errors import Stopped
from llmtune.files import content_fingerprint
from llmtune.section import read_section
from llmtune.training import range_test as module
from llmtune.training.objective import NextToken, Outcome
from llmtune.training.range_test import chosen, smoothed
from llmtune.training.schedule import REHEARSAL_STEPS, rehearsal_rate, rehearsal_rows
from llmtune.training.settings import LEARNING_RATE, TrainSettings
from tests.training.small_run import Interrupting, history_of, losses_of, small_place, small_train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = small_place(tmp_path_factory.mktemp("range"))
    small_train(place, "auto", notes, lr="auto")
    return place


notes = Interrupting()


def found(place: Path, name: str = "auto") -> dict[str, Any]:
    return json.loads((place / name / "work/range-test.json").read_text())


@pytest.mark.parametrize("curvature", [3.0, 200.0, 4e4])
def test_the_rule_on_a_quadratic(curvature: float) -> None:
    """One step of gradient descent at rate r gains g² (r - c r² / 2): most at 1 / c, three quarters of that at
    0.5 / c."""
    rates = [rehearsal_rate(number) for number in range(REHEARSAL_STEPS)]
    gains = [rate - curvature * rate**2 / 2 for rate in rates]
    found = chosen(rates, gains)
    assert found is not None
    assert 0.45 / curvature <= found <= 0.5 / curvature * rates[1] / rates[0]


def test_where_nothing_is_gained_nothing_is_chosen() -> None:
    assert chosen([1e-6, 1e-5], [-0.1, -0.2]) is None
    assert chosen([], []) is None


def test_one_odd_row_does_not_decide() -> None:
    assert smoothed([0.0, 9.0, 0.0, 1.0, 2.0]) == [4.5, 0.0, 1.0, 1.0, 1.5]
    rates = [rehearsal_rate(number) for number in range(8)]
    assert chosen(rates, [0.0, 0.0, 5.0, 0.1, 0.3, 0.8, 1.0, 0.9]) == rates[5]


def test_rates_rise_by_one_factor() -> None:
    rates = [rehearsal_rate(number) for number in range(REHEARSAL_STEPS)]
    assert (rates[0], rates[-1]) == pytest.approx((1e-6, 1.0))
    factors = [after / before for before, after in pairwise(rates)]
    assert factors == pytest.approx([factors[0]] * (REHEARSAL_STEPS - 1))


def test_the_training_is_the_one_with_that_rate_in_the_recipe(place: Path) -> None:
    rate = found(place)["lr"]
    metrics = small_train(place, "given", lr=rate)
    assert metrics["lr"] == rate
    assert losses_of(place, "given") == losses_of(place, "auto")
    for name in ("model.safetensors", "history.jsonl"):
        given, auto = (content_fingerprint([place / run / "output" / name]) for run in ("given", "auto"))
        assert given == auto


def test_it_is_told_and_shown(place: Path) -> None:
    rate = found(place)["lr"]
    assert f"lr: auto is {rate:.2g} by a range test: the first rate to gain 75 % of the most" in notes.notes
    section = read_section(place / "auto/output")
    assert section is not None
    assert list(section.charts[0].series["measured"]) == found(place)["gains"]
    assert list(section.charts[0].x) == pytest.approx([math.log10(one) for one in found(place)["rates"]], abs=1e-3)
    small_train(place, "default", tokens=600, lr=None)
    assert read_section(place / "default/output") is None


def test_where_every_rate_loses_the_default_is_taken_and_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rehearsal_rate", lambda number: 30.0)
    told = Interrupting()
    assert small_train(place, "lost", told, lr="auto", tokens=600)["lr"] == LEARNING_RATE["full"]
    assert "lr: auto is 0.0003 by a range test: the default, because no rate gained anything" in told.notes
    small_train(place, "as-default", lr=None, tokens=600)
    assert losses_of(place, "lost") == losses_of(place, "as-default")


class Tripled(NextToken):
    """In training three times the loss of a validation, as a teacher's or a router's part may be."""

    def __call__(self, model: Any, batch: Any) -> Outcome:
        loss, weight, metrics = super().__call__(model, batch)
        return Outcome(loss * (3 if model.training else 1), weight, metrics)


def test_losses_are_compared_with_losses_of_the_same_kind(place: Path) -> None:
    """What rows cost before the test, and what is typical before the first step, is measured as steps are."""
    small_train(place, "tripled", objective=Tripled(), lr="auto", tokens=600)
    assert found(place, "tripled")["gains"][:10] == pytest.approx([0.0] * 10, abs=0.1)
    assert found(place, "tripled")["lr"] > 1e-4
    assert not any("spike" in record for record in history_of(place, "tripled"))


@pytest.mark.slow
def test_the_rate_is_near_the_best_of_a_sweep(place: Path) -> None:
    """Of rates a factor of five apart, on the loss that the whole training ends with."""
    rates = (2e-3, 1e-2, 5e-2)
    ends = {rate: small_train(place, f"at-{rate}", lr=rate)["valid_loss"] for rate in rates}
    best = min(ends, key=lambda rate: ends[rate])
    assert best / 4 < found(place)["lr"] < best * 4


def test_it_is_made_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"lr": "auto", "checkpoint_steps": 2}
    with pytest.raises(Stopped):
        small_train(place, "again", StopInTest(), **settings)  # in the midst of it: nothing is kept
    assert not (place / "again/work/range-test.json").exists()
    with pytest.raises(RuntimeError, match="went away"):
        small_train(place, "again", Interrupting(fail_after=3), **settings)
    monkeypatch.setattr(module, "_rehearse", lambda loop: pytest.fail("made a second time"))
    small_train(place, "again", **settings)
    assert content_fingerprint([place / "again/output"]) == content_fingerprint([place / "auto/output"])


@pytest.mark.slow
def test_smaller_micro_batches_find_the_same(place: Path) -> None:
    small_train(place, "halved", lr="auto", halvings=2, tokens=600)
    assert found(place, "halved")["lr"] == found(place)["lr"]
    assert found(place, "halved")["gains"][:20] == pytest.approx(found(place)["gains"][:20], abs=1e-3)


def test_a_longer_training_is_rehearsed_with_more_rows() -> None:
    """A twentieth of the rows, a row an update at least and a step's rows at most."""
    settings = TrainSettings(row_tokens=64, batch_tokens=512)
    assert [rehearsal_rows(settings, steps) for steps in (1, 100, 199, 200, 500, 1000, 10_000)] == [1, 1, 1, 2, 5, 8, 8]


class StopInTest(Interrupting):
    """Asks to stop in the test, which records no steps."""

    asked = 0

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked > 50

"""The guard: its rule by hand, its decisions as a state machine, and real trainings that go astray."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from llmtune.errors import NotFinite
from llmtune.extras import have
from llmtune.files import content_fingerprint
from llmtune.monitor import Monitor
from llmtune.section import read_section
from llmtune.training import loop as loop_module
from llmtune.training.checkpoint import CheckpointStore, Progress
from llmtune.training.data import Row
from llmtune.training.guard import ends_high, gone_back, is_spike, lowest_median, rate_part
from llmtune.training.loop import Loop
from llmtune.training.objective import Outcome
from llmtune.training.order import rows_of_step
from llmtune.training.schedule import rate_at
from llmtune.training.settings import GuardSettings, TrainSettings, count_steps
from tests.training.small_run import Interrupting, history_of, losses_of, small_place, small_train
from tests.training.test_zero import on_ranks

# Five good steps (the state of the fourth is kept), then two spikes in a row.
SPIKES = "spike@step:6,spike@step:7"
QUICK: dict[str, Any] = {"guard": {"patience": 2, "anchor_steps": 4}, "validation": {"every": 100}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_place(tmp_path_factory.mktemp("guard"))


def steps_with(losses: Sequence[float], *, spike: float = 1.5) -> tuple[Progress, list[bool]]:
    """What the rule says of one loss after another."""
    progress, told = Progress(), []
    for loss in losses:
        told.append(is_spike(loss, progress, GuardSettings(spike=spike)))
        progress.history.append({"loss": loss, **({"spike": True} if told[-1] else {})})
        if not told[-1]:
            progress.typical = lowest_median(progress)
    return progress, told


def test_the_rule_by_hand() -> None:
    """Median of 2, 4, 3, 3 is 3, so that 4.5 is the bound; of 2, 4, 3, 3, 2, 2 it is 2.5, the bound 3.75."""
    progress, told = steps_with([2.0, 4.0, 3.0, 3.0, 4.4, 4.6])
    assert (progress.typical, told) == (3.0, [False] * 5 + [True])
    progress, told = steps_with([2.0, 4.0, 3.0, 3.0, 2.0, 2.0, 3.7, 3.8])
    assert (progress.typical, told) == (2.5, [False] * 7 + [True])
    assert not any(steps_with([2.0, 4.0, 3.0, 3.0, 2.0, 2.0, 3.8], spike=1.6)[1])
    assert not any(steps_with([2.0, 2.0, 2.0, 90.0])[1]), "three losses are too few to tell"
    assert steps_with([0.1, 0.1, 0.1, 0.1, 1.4, 1.6])[1] == [False] * 5 + [True], "under one nat counts as one"


def test_a_loss_that_climbs_slowly_does_not_take_its_measure_along() -> None:
    progress, told = steps_with([2.0] * 40 + [2.0 + 0.02 * step for step in range(80)])
    assert progress.typical == 2.0
    assert told.index(True) == 40 + 51, "the first above 3"


def test_only_the_last_losses_are_typical() -> None:
    falling = [4.0] * 32 + [2.0] * 17
    assert steps_with(falling[:-1])[0].typical == 3.0  # 16 of the last 32 are 4
    assert steps_with(falling)[0].typical == 2.0


def test_where_training_stands_after_going_back_by_hand() -> None:
    steps = [{"step": number, "loss": 2.0} for number in range(1, 8)]
    good = Progress(step=4, history=steps[:4], skipped=1, seen=40)
    lost = Progress(step=7, history=steps, skipped=2, seen=70, bad=3)
    once = gone_back(lost, good, "why")
    # Batches 0 … 8 were come to, one of the four good steps having left one out: the fifth step reads batch 9.
    assert (once.step, once.skipped, once.seen, once.bad, once.roll_backs) == (4, 5, 40, 0, 1)
    assert once.history == [*steps[:4], {"step": 7, "rolled_back_to": 4, "reason": "why"}]
    twice = gone_back(
        Progress(step=6, history=[*once.history, *steps[4:6]], skipped=5, roll_backs=1), copy.deepcopy(good), "again"
    )
    assert [record.get("reason") for record in twice.history[4:]] == ["why", "again"]
    assert (twice.step + twice.skipped, twice.roll_backs) == (11, 2)
    assert [rate_part(Progress(roll_backs=n)) for n in range(4)] == [1.0, 1.0, 0.5, 0.25]


# --- the loop's decisions, on an engine whose weights are the list of the batches it has learned from


@dataclass
class Learner:
    """An engine of one number a batch: `faults` says what a batch does, and a `poison` ruins what comes after it."""

    faults: dict[int, str]
    learned: list[int] = field(default_factory=list)
    calls: int = 0
    dies_at: int = 0
    devices: Any = field(
        default_factory=lambda: SimpleNamespace(rank=0, world=1, first=True, sum=lambda values: list(values))
    )
    objective: Any = field(default_factory=lambda: SimpleNamespace(weight=lambda batch: torch.tensor(1.0)))
    batch: int = -1

    def train_on(self, batch: Any, scale: float, last: bool) -> Outcome:
        self.batch = batch["number"]
        ruined = any(self.faults.get(number) == "poison" for number in self.learned)
        loss = {"nan": float("nan"), "spike": 9.0}.get(self.faults.get(self.batch, ""), 9.0 if ruined else 2.0)
        return Outcome(torch.tensor(loss), torch.tensor(1.0), {})

    def update(self, rate: float) -> float:
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        fault = self.faults.get(self.batch)
        if fault in ("nan", "gradient"):
            return float("inf")
        self.learned.append(self.batch)
        return 1.0

    def forgives_overflow(self) -> bool:
        return False


@dataclass
class Shelf:
    """A store in memory; as the one on disk, it keeps the newest state and the one to go back to."""

    kept: dict[int, tuple[Progress, list[int]]] = field(default_factory=dict)

    def save(self, engine: Learner, progress: Progress, *, last: bool) -> None:
        self.kept[progress.step] = copy.deepcopy((progress, engine.learned))
        self.kept = {step: self.kept[step] for step in {progress.step, progress.anchor}}

    def put_back(self, engine: Learner, step: int) -> Progress:
        self.kept = {step: self.kept[step]}
        progress, engine.learned = copy.deepcopy(self.kept[step])
        return progress

    def after(self, step: int) -> Path:
        assert step in self.kept
        return Path(f"step-{step}")


ROWS = 400
ORDER = {ids[0].row: batch for batch, ids in enumerate(rows_of_step(batch, ROWS, 1, 0) for batch in range(ROWS))}


def play(faults: dict[int, str], settings: TrainSettings, deaths: Sequence[int] = ()) -> tuple[list[int], Progress]:
    """Train on numbered batches, dying at the given calls of `update` and going on from what was kept."""
    shelf, row = Shelf(), Row(np.array([1]), np.array([0]), np.array([True]))
    shelf.save(Learner({}), Progress(), last=False)
    for dies_at in (*deaths, 0):
        progress, learned = copy.deepcopy(shelf.kept[max(shelf.kept)])
        engine = Learner(faults, learned, dies_at=dies_at)
        loop = Loop(
            engine=engine,  # type: ignore[arg-type]
            settings=settings,
            steps=count_steps(settings, ROWS, ROWS),
            rows=[row] * ROWS,  # type: ignore[arg-type]
            valid=None,
            collator=lambda samples: {"number": ORDER[samples[0].index], "input_ids": torch.zeros(1)},  # type: ignore[arg-type]
            store=shelf,  # type: ignore[arg-type]
            seed=0,
            micro_batch=1,
            monitor=Monitor(),
            progress=progress,
        )
        try:
            loop.run()
        except KeyboardInterrupt:
            continue
        return engine.learned, loop.progress
    raise AssertionError("the last life has no end")


@profile(max_examples=25, deadline=None)
@given(
    faults=st.dictionaries(st.integers(0, 45), st.sampled_from(["nan", "gradient", "spike", "poison"]), max_size=12),
    patience=st.integers(1, 4),
    roll_backs=st.integers(0, 3),
    anchor=st.integers(1, 12),
    checkpoint=st.integers(1, 12),
    deaths=st.lists(st.integers(1, 30), max_size=3),
)
def test_the_guard_as_a_state_machine(
    faults: dict[int, str], patience: int, roll_backs: int, anchor: int, checkpoint: int, deaths: list[int]
) -> None:
    """Whatever the batches do: every step is made once, from batches in their order, none of them without a finite
    gradient; and deaths in between, or how often is saved, change nothing."""
    guard = GuardSettings(patience=patience, roll_backs=roll_backs, anchor_steps=anchor)
    settings = TrainSettings(tokens=30, row_tokens=8, batch_tokens=8, guard=guard, checkpoint_steps=checkpoint)
    try:
        learned, progress = play(faults, settings)
    except NotFinite:
        with pytest.raises(NotFinite):
            play(faults, settings, deaths)
        assert len(faults) >= 1
        return
    assert len(learned) == progress.step == 30
    assert learned == sorted(set(learned))
    assert not {faults.get(batch) for batch in learned} & {"nan", "gradient"}
    assert progress.skipped == learned[-1] + 1 - 30
    assert progress.roll_backs == sum("rolled_back_to" in record for record in progress.history) <= roll_backs
    steps = [record["step"] for record in progress.history if "loss" in record]
    assert steps == list(range(1, 31)), "the history holds each step once"
    assert play(faults, settings, deaths) == (learned, progress)
    often = settings.model_copy(update={"checkpoint_steps": 1})
    assert play(faults, often) == (learned, progress)


def test_poison_is_led_around() -> None:
    """A batch that ruins the weights is behind the last good state, so that going back leaves it out."""
    guard = GuardSettings(patience=3, anchor_steps=10)
    learned, progress = play({13: "poison"}, TrainSettings(tokens=30, row_tokens=8, batch_tokens=8, guard=guard))
    assert learned == [*range(10), *range(17, 37)]  # batch 14, 15 and 16 had a loss of 9
    assert (progress.roll_backs, progress.skipped) == (1, 7)
    # The state after step 10 is no good one: batch 9, the tenth, had a loss of 9 already.
    assert play({8: "poison"}, TrainSettings(tokens=30, row_tokens=8, batch_tokens=8, guard=guard))[0] == [
        *range(12, 42)
    ]


@pytest.mark.parametrize(
    ("field", "value", "returns"),
    [("patience", 3, [10]), ("spike", 5.0, []), ("patience", 4, []), ("roll_backs", 0, None), ("anchor_steps", 7, [7])],
)
def test_each_setting_is_read(field: str, value: float, returns: list[int] | None) -> None:
    """Three spikes in a row after 13 steps, where a state of the tenth is kept."""
    assert set(GuardSettings.model_fields) == {"spike", "patience", "roll_backs", "anchor_steps"}
    guard = GuardSettings.model_validate({"patience": 3, "anchor_steps": 10, field: value})
    settings = TrainSettings(tokens=30, row_tokens=8, batch_tokens=8, guard=guard)
    faults = dict.fromkeys((13, 14, 15), "spike")
    if returns is None:
        with pytest.raises(NotFinite, match="training diverged"):
            play(faults, settings)
        return
    _, progress = play(faults, settings)
    assert [record["rolled_back_to"] for record in progress.history if "rolled_back_to" in record] == returns
    spikes = [record["step"] for record in progress.history if "spike" in record]
    assert spikes == ([14, 15, 16] if field == "patience" and not returns else [])


# --- real trainings


def weights_of(place: Path, name: str) -> str:
    return content_fingerprint([place / name / "output/model.safetensors"])


def test_a_batch_without_a_finite_gradient_is_left_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are those of a training whose data never held the batch."""
    notes = Interrupting()
    for name, fault in (("loss", "nan@step:3"), ("gradient", "nan@gradient:3")):
        monkeypatch.setenv("LLMTUNE_INJECT", fault)
        metrics = small_train(place, name, notes, **QUICK)
        assert (metrics["skipped_steps"], metrics["roll_backs"], metrics["steps"]) == (1, 0, 7)
        assert f"the {name} of step 3 is not a finite number: its batch is left out" in notes.notes
    monkeypatch.delenv("LLMTUNE_INJECT")
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "rows_of_step", lambda batch, *rest: rows_of_step(batch + (batch >= 2), *rest))
        small_train(place, "without", **QUICK)
    assert weights_of(place, "loss") == weights_of(place, "gradient") == weights_of(place, "without")
    assert losses_of(place, "loss") == losses_of(place, "without")


def test_spikes_that_last_lead_back_and_then_to_half_the_rate(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are those of four steps, and then the batches from the tenth on at half the rate."""
    monkeypatch.setenv("LLMTUNE_INJECT", f"{SPIKES},spike@step:9,spike@step:10")
    metrics = small_train(place, "twice", **QUICK)
    monkeypatch.delenv("LLMTUNE_INJECT")
    assert (metrics["roll_backs"], metrics["skipped_steps"]) == (2, 6)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "rows_of_step", lambda batch, *rest: rows_of_step(batch + 6 * (batch >= 4), *rest))
        patch.setattr(loop_module, "rate_at", lambda step, *rest: rate_at(step, *rest) * (0.5 if step >= 4 else 1))
        small_train(place, "by-hand", **QUICK)
    assert weights_of(place, "twice") == weights_of(place, "by-hand")
    assert losses_of(place, "twice") == losses_of(place, "by-hand")
    told = [record for record in history_of(place, "twice") if "rolled_back_to" in record]
    assert [(record["step"], record["rolled_back_to"]) for record in told] == [(7, 4), (7, 4)]
    section = read_section(place / "twice/output")
    assert section is not None
    assert [list(row)[:2] for row in section.tables[0].rows] == [[7, 4], [7, 4]]
    assert read_section(place / "by-hand/output") is None


@pytest.mark.slow
def test_a_rate_ten_times_too_high_is_told_at_once(place: Path, tmp_path: Path) -> None:
    """Of a trained model, whose loss is gone before there are losses to learn from what is typical."""
    small_train(place, "before", lr=1e-2, tokens=20_000)
    (tmp_path / "model").symlink_to(place / "before/output")
    (tmp_path / "corpus").symlink_to(place / "corpus")
    settings: dict[str, Any] = {"tokens": 10_000, "schedule": {"warmup": 0}}
    told = Interrupting()
    with pytest.raises(NotFinite, match=r"training diverged: the loss shot up .* \(roll-backs: 3\)"):
        small_train(tmp_path, "high", told, lr=0.1, **settings)
    assert [step["step"] for step in told.steps] == [1, 2, 3, 4, 5, 6] * 4
    assert max(step["lr"] for step in told.steps[-6:]) == pytest.approx(0.025, rel=0.01)
    assert small_train(tmp_path, "right", lr=1e-2, **settings)["roll_backs"] == 0


def test_a_training_too_short_to_go_back_tells_that_it_went_astray(place: Path) -> None:
    told = Interrupting()
    metrics = small_train(place, "hot", told, lr=100.0, tokens=4 * 512)
    assert metrics["roll_backs"] == 0
    assert any("where " in note and "it has harmed the model; lower lr" in note for note in told.notes), told.notes
    told = Interrupting()
    small_train(place, "mild", told, lr=1e-3, tokens=4 * 512)
    assert not any("harmed" in note for note in told.notes)


def test_when_a_training_has_harmed_its_model() -> None:
    history = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 9.0, "spike": True},
        {"step": 4, "loss": 9.5, "spike": True},
    ]
    ended = Progress(step=4, history=history, bad=2, typical=2.0)
    assert "a loss of 9.5, where 2 was typical" in (ends_high(ended, GuardSettings()) or "")
    assert not ends_high(replace(ended, best_step=2, best_loss=2.1), GuardSettings()), "the batch was a bad one"
    assert ends_high(replace(ended, best_step=2, best_loss=8.1), GuardSettings()), "they had the loss of 9"
    assert not ends_high(replace(ended, best_step=4, best_loss=1.9), GuardSettings()), "both batches were"
    validated = [history[0], {"step": 1, "valid_loss": 8.1}, *history[1:]]
    distilled = replace(ended, history=validated, best_step=1, best_loss=8.1)
    assert not ends_high(distilled, GuardSettings()), "of another measure, and step 2 was as usual"
    assert ends_high(replace(ended, best_step=0, best_loss=2.1), GuardSettings()), "keep: last"
    skipped = [*history[:3], {"step": 4, "skipped": "not finite"}]
    assert not ends_high(replace(ended, history=skipped), GuardSettings()), "one spike, one batch left out"


@pytest.mark.slow
def test_interrupted_around_a_roll_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state saved on the way astray (`checkpoint_steps`) leads there again, and back."""
    monkeypatch.setenv("LLMTUNE_INJECT", SPIKES)
    settings = {**QUICK, "checkpoint_steps": 1, "validation": {"every": 2}}
    small_train(place, "whole", **settings)
    for monitor in (Failing("step", 6), Failing("roll_back", 7), Failing("step", 7, times=2)):
        with pytest.raises(RuntimeError, match="went away"):
            small_train(place, "again", monitor, **settings)
    small_train(place, "again", **settings)
    assert content_fingerprint([place / "again/output"]) == content_fingerprint([place / "whole/output"])


def test_a_training_that_cannot_be_saved_ends_with_its_last_good_state(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTUNE_INJECT", ",".join(f"spike@step:{batch}" for batch in range(6, 40)))
    for _ in range(2):  # the same again by the same command
        with pytest.raises(NotFinite, match=r"the loss shot up .* \(roll-backs: 3\)") as caught:
            small_train(place, "lost", **QUICK)
        assert "the last good state (step-000004) is kept" in str(caught.value)
    store = CheckpointStore(place / "lost/work/checkpoints", first=True)
    assert store.latest() == store.after(4)
    assert store.progress(store.after(4)).step == 4


def test_a_validation_that_is_not_finite_leads_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTUNE_INJECT", "nan@validation:5")
    settings = {"validation": {"every": 5}, "guard": {"anchor_steps": 4, "roll_backs": 1}}
    with pytest.raises(NotFinite, match=r"validation loss after step 5 is not a finite number \(roll-backs: 1\)"):
        small_train(place, "validation", **settings)


@pytest.mark.slow
def test_the_best_weights_of_the_state_gone_back_to_are_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better validation on the way astray is undone with the way."""
    monkeypatch.setenv("LLMTUNE_INJECT", SPIKES)
    metrics = small_train(place, "best", validation={"every": 1}, lr=0.1, checkpoint_steps=1, guard=QUICK["guard"])
    valid = {r["step"]: r["valid_loss"] for r in history_of(place, "best") if "valid_loss" in r}
    assert sorted(valid) == list(range(1, 8))
    assert metrics["kept_step"] == min(valid, key=lambda step: valid[step])
    assert metrics["valid_loss"] == min(valid.values())


class Failing(Monitor):
    """Fails when a record of this kind tells of this step for the n-th time."""

    def __init__(self, kind: str, step: int, times: int = 1) -> None:
        self.wanted, self.times = (kind, step), times

    def record(self, kind: str, /, **fields: Any) -> None:
        self.times -= (kind, fields["step"]) == self.wanted
        if not self.times:
            raise RuntimeError("the machine went away")


# Two batches left out, then a roll-back from the seventh step to the fourth; and the rate is found by a test before.
RANKS = {**QUICK, "lr": "auto", "checkpoint_steps": 2}
FAULTS = "nan@step:2,nan@gradient:4,spike@step:8,spike@step:9"


@pytest.mark.slow
@pytest.mark.skipif(not have("deepspeed"), reason="needs the extra deepspeed")
@pytest.mark.parametrize("config", ["zero3-cpu", "fsdp2-cpu"])
def test_ranks_decide_as_one_process_does(place: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    """Weights and moments are put back in place, after the range test and in the roll-back."""
    if not (place / "alone").exists():
        with monkeypatch.context() as patch:
            patch.setenv("LLMTUNE_INJECT", FAULTS)
            small_train(place, "alone", **RANKS)
    on_ranks(place, config, config, RANKS, LLMTUNE_INJECT=FAULTS)
    history = history_of(place, config)
    assert [record["step"] for record in history if "skipped" in record] == [2, 3]
    assert [record["rolled_back_to"] for record in history if "rolled_back_to" in record] == [4]
    assert losses_of(place, config) == pytest.approx(losses_of(place, "alone"), abs=2e-3)
    ours, alone = (json.loads((place / name / "work/range-test.json").read_text()) for name in (config, "alone"))
    assert ours["gains"][:20] == pytest.approx(alone["gains"][:20], abs=1e-3)
    assert ours["lr"] == alone["lr"]


@pytest.mark.slow
@pytest.mark.skipif(not have("deepspeed"), reason="needs the extra deepspeed")
def test_ranks_killed_in_going_back_come_to_the_same_bits(place: Path) -> None:
    if not (place / "zero3-cpu").exists():  # the test above may run in another process
        on_ranks(place, "zero3-cpu", "zero3-cpu", RANKS, LLMTUNE_INJECT=FAULTS)
    killed = on_ranks(place, "killed", "zero3-cpu", RANKS, LLMTUNE_INJECT=f"{FAULTS},kill@roll_back:4")
    assert killed not in (0, -signal.SIGTERM)
    on_ranks(place, "killed", "zero3-cpu", RANKS, LLMTUNE_INJECT=FAULTS)
    assert content_fingerprint([place / "killed/output"]) == content_fingerprint([place / "zero3-cpu/output"])

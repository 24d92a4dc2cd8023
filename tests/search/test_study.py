"""Studies: which trials there are, what they come to, and that nothing is lost or done twice."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from llmtune.errors import CannotRunHere, Disturbed, LlmtuneError, Stopped
from llmtune.files import read_json, write_json
from llmtune.recipe import load_recipe
from llmtune.run.folder import RunFolder
from llmtune.search.record import StudyFolder
from llmtune.search.trial import CannotCompare, LossWatch
from llmtune.seeds import seed_of
from tests.search.conftest import Bench, Killed, Moments, run, told
from tests.search.toy.learn_stage import LearnStage, WordsStage

optuna.logging.set_verbosity(optuna.logging.WARNING)
WIDE = """
  space:
    learn.lr: {low: 1e-4, high: 5.0, log: true}
    learn.width: {choices: [4, 8, 16]}
  minimize: learn.valid_loss
"""


def test_a_grid_tries_every_combination_once_and_in_order(bench: Bench, moments: Moments) -> None:
    study = bench.study("""
  space:
    learn.lr: {low: 0.05, high: 0.17, step: 0.05}
    learn.width: {low: 2, high: 3}
    learn.shape: {choices: [null, {a: 1, b: 2}]}
  minimize: learn.valid_loss
  sampler: grid
""")
    trials = run(study)
    expected = itertools.product([0.05, 0.1, 0.15], [2, 3], [None, {"a": 1, "b": 2}])
    assert [tuple(study.space.values(params).values()) for _, _, params, *_ in trials] == list(expected)
    written = load_recipe(study.files.trial(11) / "recipe.yaml").stages[1]
    assert (written.lr, written.width, written.shape) == (0.15, 3, {"a": 1, "b": 2})  # type: ignore[attr-defined]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_sequence_is_that_of_optuna_with_the_same_seeds(bench: Bench, moments: Moments, sampler: str) -> None:
    study = bench.study(WIDE + f"  sampler: {sampler}\n  trials: 10\n")
    trials = run(study)

    plain = optuna.create_study(direction="minimize")
    for number, (_, state, _, value, *_) in enumerate(trials):
        seed = seed_of(3, "trial", number) % 2**32
        chooser = {
            "random": optuna.samplers.RandomSampler(seed=seed),
            "tpe": optuna.samplers.TPESampler(seed=seed, n_startup_trials=4),
        }
        plain.sampler = chooser[sampler]
        trial = plain.ask()
        trial.suggest_float("learn.lr", 1e-4, 5.0, log=True)
        trial.suggest_categorical("learn.width", [4, 8, 16])
        if state == "FAIL":
            plain.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            plain.tell(trial, value)
    assert [params for _, _, params, *_ in trials] == [trial.params for trial in plain.trials]
    values = [value for _, state, _, value, *_ in trials if state == "COMPLETE"]
    assert min(values) == plain.best_value
    assert len(set(values)) > 5


def test_pruning_is_that_of_optuna_told_of_the_same_losses(bench: Bench, moments: Moments) -> None:
    """Each trial's losses up to where it was pruned, by Optuna's own loop over the same parameters."""
    study = bench.study(WIDE + "  sampler: random\n  trials: 8\n  pruner: median\n  prune_after: 2\n")
    trials = run(study)
    assert [state for _, state, *_ in trials].count("PRUNED") >= 2

    free = bench.study(WIDE + "  sampler: random\n  trials: 8\n", runs="free")
    losses = [losses for *_, losses, _ in run(free)]
    plain = optuna.create_study(direction="minimize", pruner=optuna.pruners.MedianPruner(2))
    for number, (_, state, params, *_) in enumerate(trials):
        plain.enqueue_trial(params)
        trial = plain.ask(study.space.distributions)
        pruned = False
        for step, loss in losses[number].items():
            trial.report(loss, step)
            if pruned := trial.should_prune():
                break
        states = {"FAIL": optuna.trial.TrialState.FAIL, True: optuna.trial.TrialState.PRUNED}
        if pruned or state == "FAIL":
            plain.tell(trial, state=states["FAIL" if state == "FAIL" and not pruned else True])
        else:
            plain.tell(trial, losses[number][6])
    assert [state for _, state, *_ in trials] == [trial.state.name for trial in plain.trials]
    assert [losses for *_, losses, _ in trials] == [trial.intermediate_values for trial in plain.trials]


@pytest.mark.slow
def test_what_is_maximized_is_pruned_by_the_losses_as_what_is_minimized(bench: Bench, moments: Moments) -> None:
    most = WIDE.replace("minimize: learn.valid_loss", "maximize: squeeze.bits") + "  sampler: random\n"
    trials = run(bench.study(most + "  trials: 6\n  pruner: median\n  prune_after: 2\n"))
    least = run(bench.study(WIDE + "  sampler: random\n  trials: 6\n  pruner: median\n  prune_after: 2\n", runs="b"))
    states = [state for _, state, *_ in trials]
    assert "PRUNED" in states
    assert states == [state for _, state, *_ in least]
    assert {value for _, state, _, value, *_ in trials if state == "COMPLETE"} == {4.0}


SEARCHES = {
    "tpe": WIDE + "  sampler: tpe\n  trials: 6\n  pruner: median\n  prune_after: 2\n",
    "grid": """
  space:
    learn.width: {choices: [8, 4, 2, 8]}
  minimize: learn.valid_loss
  sampler: grid
  pruner: median
  prune_after: 1
""".replace(", 8]", ", 1]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SEARCHES)
def test_killed_again_and_again_and_gone_on_with_it_is_the_same_study(
    bench: Bench, moments: Moments, sampler: str
) -> None:
    """The moments fall on the start and end of a stage, around each step and around each event of a validation, also
    between its being written and its being heard."""
    whole = bench.study(SEARCHES[sampler], runs="whole")
    expected = run(whole)
    assert "PRUNED" in [state for _, state, *_ in expected]
    study = bench.study(SEARCHES[sampler])
    for kills in itertools.count():
        moments.passed, moments.fatal = 0, 4 + kills % 6
        try:
            assert run(study) == expected
            break
        except Killed:
            continue
    assert kills >= 6
    assert study.files.best.read_text() == whole.files.best.read_text()


@pytest.mark.slow
def test_killed_between_the_end_of_a_trial_and_its_being_recorded(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(bench.study(SEARCHES["tpe"], runs="whole"))
    study = bench.study(SEARCHES["tpe"])
    for _ in expected:
        for owner, name in ((optuna.Study, "add_trial"), (study, "_tell")):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, die)
                with pytest.raises(Killed):
                    run(study)
    assert run(study) == expected


def test_trials_share_the_store_and_nothing_is_made_twice(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = """
  space:
    learn.width: {choices: [4, 8]}
  minimize: learn.valid_loss
  sampler: random
  trials: 5
"""
    made = watch_workers(monkeypatch)
    trials = run(bench.study(search))
    assert len({params["learn.width"] for _, _, params, *_ in trials}) == 2
    assert sorted(made) == ["learn", "learn", "words"], "the corpus once, and each of the two models"
    assert run(bench.study(search)) == trials
    assert len(run(bench.study(search.replace("5", "7")))) == 7, "more trials go on with the same study"
    assert run(bench.study(search.replace("5", "7")))[:5] == trials
    assert len(made) == 3


def test_another_search_sets_the_study_aside_and_takes_from_the_store(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = "\n  space:\n    learn.width: {choices: [4, 8]}\n  minimize: learn.valid_loss\n  sampler: grid\n"
    first = bench.study(search)
    run(first)
    made = watch_workers(monkeypatch)
    assert len(run(bench.study(search.replace("[4, 8]", "[4, 8, 2]")))) == 3
    assert made == ["learn"]
    aside = first.run.files.folder / "previous/001-trials"
    assert (aside / "001/recipe.yaml").is_file()
    assert run(bench.study(search, overrides=("squeeze.bits=3",))), "what comes after the objective is none of it"
    assert sorted(path.name for path in aside.parent.iterdir()) == ["001-trials", "002-trials"]


def test_a_grid_in_another_order_is_another_study(bench: Bench, moments: Moments) -> None:
    """One that went on in it would try some points twice and others never."""
    search = "\n  space:\n{space}  minimize: learn.valid_loss\n  sampler: grid\n"
    lines = ["    learn.width: {choices: [4, 8]}\n", "    learn.steps: {choices: [2, 3]}\n"]
    first = bench.study(search.format(space="".join(lines)))
    run(first)
    again = run(bench.study(search.format(space="".join(reversed(lines)))))
    assert (first.run.files.folder / "previous/001-trials").is_dir()
    assert len({tuple(sorted(params.items())) for _, _, params, *_ in again}) == 4


def watch_workers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the stages that workers are started for from now on."""
    from llmtune.run import making

    made: list[str] = []
    work = making.run_worker

    def note(job: Any, *rest: Any) -> Any:
        made.append(job.kind)
        return work(job, *rest)

    monkeypatch.setattr(making, "run_worker", note)
    return made


def test_a_trial_that_fails_is_told_with_its_reason_and_ends_nothing(bench: Bench, moments: Moments) -> None:
    study = bench.study("""
  space:
    learn.lr: {choices: [2.0, 0.5, 0.01]}
    learn.width: {choices: [16, 8]}
  minimize: learn.valid_loss
  sampler: grid
""")
    trials = run(study)
    assert [state for _, state, *_ in trials] == ["FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    reasons = [reason for *_, reason in trials]
    assert "a width of 16 bears no rate above 0.3" in reasons[0]
    assert "recipe.yaml:" in reasons[0]
    assert "the loss of step 3 is not a finite number" in reasons[1]
    assert "a width of 16" in reasons[2]


def test_perplexities_are_told_in_tokens_of_the_first_complete_trial(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as many tokens of twice the cost are the same text at the same cost; another text does not compare."""
    measured = {16: (100, 4.0, "one"), 8: (50, 16.0, "one"), 4: (25, 81.0, "one"), 2: (100, 2.0, "other")}
    work = LearnStage.run

    def scored(self: LearnStage, inputs: Any, context: Any) -> dict[str, Any]:
        tokens, perplexity, text = measured[self.width]
        bits = tokens * math.log2(perplexity) / 400
        return work(self, inputs, context) | {
            "domain_perplexity": perplexity, "domain_tokens": tokens, "domain_bits_per_byte": bits, "domain_text": text
        }  # fmt: skip

    monkeypatch.setattr(LearnStage, "run", scored)
    study = bench.study("""
  space: {learn.width: {choices: [16, 8, 4, 2]}, learn.lr: {choices: [0.2]}}
  minimize: learn.valid_loss
  sampler: grid
""")
    study.figure = "domain_perplexity"
    with pytest.raises(CannotCompare, match="measured on another text than that of the first complete one"):
        run(study)
    assert [value for _, _, _, value, *_ in told(study)] == pytest.approx([4.0, 4.0, 3.0])
    assert "trial 3" in study.files.best.read_text()


def test_where_all_fail_the_first_reason_is_told(bench: Bench, moments: Moments) -> None:
    study = bench.study(
        "\n  space:\n    learn.lr: {choices: [2.0, 3.0]}\n  minimize: learn.valid_loss\n  sampler: grid\n"
    )
    with pytest.raises(LlmtuneError, match=r"(?s)none of 2 trials.*step 3 is not a finite number"):
        run(study)
    assert not study.files.best.exists()


@pytest.mark.parametrize(
    ("figure", "said"),
    [("valid_los", "did you mean 'valid_loss'"), ("nothing", "none of 2 trials.*nothing of 'learn'")],
)
def test_a_figure_that_is_not_measured(bench: Bench, moments: Moments, figure: str, said: str) -> None:
    study = bench.study(
        f"\n  space:\n    learn.width: {{choices: [4, 8]}}\n  minimize: learn.{figure}\n  sampler: grid\n"
    )
    with pytest.raises(LlmtuneError, match=said):
        run(study)


def test_what_is_not_of_a_trials_doing_ends_the_study_and_is_no_failed_trial(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = bench.study(SEARCHES["tpe"])
    with monkeypatch.context() as patched:
        patched.setattr("llmtune.run.making.run_worker", full_disk)
        with pytest.raises(Disturbed):
            run(study)
    assert told(study) == []
    assert len(run(study)) == 6


def test_what_the_database_refuses_is_told(tmp_path: Path) -> None:
    files = StudyFolder(tmp_path)
    files.folder.mkdir()
    (files.folder / "study.db").write_text("no database, whatever its name is")
    with pytest.raises(Disturbed, match="the study's database cannot be used: file is not a database"):
        files.look()


def test_texts_to_choose_from_can_be_given_on_the_command_line(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bench.folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in "ab":
        (here / name).touch()
    search = "\n  space:\n    learn.width: {choices: [8]}\n  minimize: learn.valid_loss\n  sampler: grid\n"
    study = bench.study(search, overrides=("search.space={words.text: {choices: [a, b]}}",))
    assert [params for _, _, params, *_ in run(study)] == [{"words.text": "a"}, {"words.text": "b"}]
    assert load_recipe(study.files.best).stages[0].text == here / "a"  # type: ignore[attr-defined]


def test_a_study_is_not_for_an_outer_launch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtune.search.study.launched_from_outside", lambda: True)
    with pytest.raises(CannotRunHere, match="a study starts the trainings itself"):
        bench.study(SEARCHES["grid"])


def full_disk(*_: object) -> None:
    raise Disturbed("no space left on the disk")


@pytest.mark.slow
def test_ctrl_c_stops_the_study_and_it_goes_on(bench: Bench, moments: Moments) -> None:
    expected = run(bench.study(SEARCHES["tpe"], runs="whole"))
    study = bench.study(SEARCHES["tpe"])
    for press_at in (3, 9, 14, 21):
        moments.passed, moments.press_at = 0, press_at
        with pytest.raises(Stopped):
            run(study)
    moments.press_at = None
    assert told(study) == expected[: len(told(study))]
    assert run(study) == expected


def test_the_problems_of_what_is_in_no_trials_hands_are_told_before_any(bench: Bench, moments: Moments) -> None:
    study = bench.study(SEARCHES["tpe"], overrides=("words.text=/not/there",))
    with pytest.raises(LlmtuneError, match="no text"):
        run(study)
    assert not study.files.folder.exists()


def test_the_plan_counts_shared_stages_once_and_what_is_left(bench: Bench, moments: Moments) -> None:
    search = "\n  space:\n    learn.width: {choices: [4, 8, 16]}\n  minimize: learn.valid_loss\n  sampler: grid\n"
    forecast = bench.study(search).forecast()
    assert (forecast.each, forecast.seconds, forecast.bytes) == (60, 40 + 3 * 60, 3000)
    with_seed = bench.study(search.replace("learn.width", "seed")).forecast()
    assert with_seed.seconds == 3 * 100
    run(bench.study(search))
    assert bench.study(search).forecast().seconds == 0


def test_records_of_a_trial_are_those_of_a_run(bench: Bench, moments: Moments) -> None:
    study = bench.study(SEARCHES["grid"])
    run(study)
    records = RunFolder(study.files.trial(0)).records()
    assert [record.id for _, record in records] == ["words", "learn"]


def test_documents_that_change_meanwhile_end_the_study(
    bench: Bench, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = bench.study(SEARCHES["grid"])
    monkeypatch.setattr(study, "_tell", lambda *_: monkeypatch.setattr(WordsStage, "version", 2))
    with pytest.raises(Disturbed, match="changed during the study"):
        run(study)
    assert len(told(study)) == 1


def test_a_kill_while_catching_up_loses_no_loss(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = bench.study(SEARCHES["tpe"]).space
    file = tmp_path / "validations.json"
    write_json(file, [[2, 0.5], [4, 0.25]])
    trial = space.ask(0, [])
    with monkeypatch.context() as patched:
        patched.setattr(trial, "should_prune", die)
        with pytest.raises(Killed):
            LossWatch("learn", trial, 1, file).catch_up(None)
    watch = LossWatch("learn", space.ask(0, []), 1, file)
    watch.catch_up(None)
    watch.hear(4, 9.0)
    watch.hear(6, 0.125)
    assert watch.losses == {2: 0.5, 4: 0.25, 6: 0.125}
    assert read_json(file) == [[2, 0.5], [4, 0.25], [6, 0.125]]


def die(*_: object) -> None:
    raise Killed

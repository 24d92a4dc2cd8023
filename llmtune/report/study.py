"""The study of a run: its trials as a table on the terminal, and its part of the report."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table as Lines

from llmtune.search.record import (
    REASON,
    SECONDS,
    StudyFolder,
    StudyMark,
    best_of,
    short,
    state_of,
    value_of,
    words_of,
)
from llmtune.search.sampler import quiet_optuna
from llmtune.section import Cell, Chart, Section, Table
from llmtune.words import human_seconds

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_FEWEST = 4  # complete trials for a statement on what mattered


def trial_table(run: Path) -> Lines | None:
    """The finished trials of a run's study, a line each, the best one in green; None when there are none."""
    files = StudyFolder(run)
    mark, trials = files.read_mark(), files.finished()
    if mark is None or not trials:
        return None
    table = Lines(title=f"Trials ({mark.direction} {mark.objective})", title_justify="left")
    columns = _columns(mark, trials)
    for column in columns:
        table.add_column(escape(column), justify="left" if column == "state" else "right")
    best = best_of(trials, mark.direction)
    for trial in trials:
        cells = [escape(short(cell) if cell is not None else "–") for cell in _row(trial)]
        table.add_row(*cells, style="green" if trial is best else None)
    return table


def study_section(run: Path) -> Section | None:
    """What the report shows of a run's study; None where the run has none."""
    files = StudyFolder(run)
    mark, study = files.read_mark(), files.look()
    trials = study.get_trials() if study else []
    if mark is None or study is None or not trials:
        return None
    failed = [trial for trial in trials if REASON in trial.user_attrs]
    tables = [Table("Trials", _columns(mark, trials), [_row(trial) for trial in trials])]
    if failed:
        rows = [(trial.number + 1, _without_folders(trial.user_attrs[REASON])) for trial in failed]
        tables.append(Table("Why trials failed", ("trial", "reason"), rows))
    charts = [chart for chart in (_history(mark, trials), _importance(study)) if chart is not None]
    return Section(_summary(mark, trials), tables, charts)


def _summary(mark: StudyMark, trials: list[FrozenTrial]) -> str:
    states = [state_of(trial) for trial in trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    text = f"{len(trials)} of {mark.trials} trials: {counted}."
    best = best_of(trials, mark.direction)
    if best is None:
        return text
    value, words = short(value_of(best)), _without_folders(words_of(best.params))
    return f"{text} The best, trial {best.number + 1}: {mark.objective} {value} with {words}."


def _columns(mark: StudyMark, trials: list[FrozenTrial]) -> list[str]:
    return ["trial", "state", mark.objective, *trials[0].params, "time"]


def _row(trial: FrozenTrial) -> list[Cell]:
    seconds = human_seconds(trial.user_attrs[SECONDS])
    plain = [short(value) if isinstance(value, bool | None) else value for value in trial.params.values()]
    chosen = [_without_folders(value) if isinstance(value, str) else value for value in plain]
    return [trial.number + 1, state_of(trial), trial.value, *chosen, seconds]


def _without_folders(text: str) -> str:
    """Absolute paths cut down to their last name: a report tells no user or host."""
    return re.sub(r"(?<![\w.:/…])/[^\s'\"]*/", "…/", text)


def _history(mark: StudyMark, trials: list[FrozenTrial]) -> Chart | None:
    """The value of every complete trial, and the best up to each; None where none is complete."""
    complete = [trial for trial in trials if trial.value is not None]
    if not complete:
        return None
    best = [best_of(trials[: trial.number + 1], mark.direction) for trial in complete]
    series = {
        "a trial": [trial.value for trial in complete],
        "the best so far": [one.value if one else None for one in best],
    }
    numbers = [trial.number + 1 for trial in complete]
    return Chart("The course of the search", "points", numbers, series, "trial", mark.objective)


def _importance(study: optuna.Study) -> Chart | None:
    """How much of what tells the better half of the trials from all lies in each field (PED-ANOVA, Watanabe et al.
    2023); None where too few trials came to an end."""
    optuna = quiet_optuna()
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < _FEWEST or len({trial.value for trial in complete}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if len(shares) < 2:  # nothing to share
        return None
    return Chart(
        "What mattered", "bars", list(shares), {"importance": list(shares.values())}, "share of the difference"
    )

"""What the report and the terminal tell of a study, from its files alone."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llmtune.report.study import study_section, trial_table
from tests.search.conftest import Bench, Moments, run

SEARCH = """
  space:
    learn.width: {choices: [4, 8]}
    learn.lr: {choices: [0.1, 0.01, 2.0]}
  minimize: learn.valid_loss
  sampler: grid
"""


def test_trials_course_and_importance_are_told(bench: Bench, moments: Moments) -> None:
    study = bench.study(SEARCH)
    run(study)
    section = study_section(study.run.files.folder)
    assert section is not None
    assert section.summary.startswith(
        "6 of 6 trials: 4 complete, 2 failed. The best, trial 5: learn.valid_loss 0.1667 "
    )
    assert section.summary.endswith("with learn.width=8 learn.lr=0.01.")
    trials, failed = section.tables
    assert trials.columns == ["trial", "state", "learn.valid_loss", "learn.width", "learn.lr", "time"]
    by_hand = [
        1 + 1 / 4 + 1 / 6,
        1 / 4 + 1 / 6,
        None,
        1 + 1 / 6,
        1 / 6,
        None,
    ]  # (log lr + 2)² + (log₂ width - 3)²/4 + …
    assert [row[2] for row in trials.rows] == [pytest.approx(value) for value in by_hand]
    assert [row[0] for row in failed.rows] == [3, 6]
    assert "step 3 is not a finite number" in str(failed.rows[0][1])
    course, importance = section.charts
    best = [by_hand[0], by_hand[1], by_hand[1], by_hand[4]]
    assert course.series["the best so far"] == [pytest.approx(value) for value in best]
    assert course.x == [1, 2, 4, 5]
    assert importance.x[0] == "learn.lr", "it moves the loss by 1, the width by a quarter"
    assert sum(importance.series["importance"]) == pytest.approx(1)  # type: ignore[arg-type]


def test_the_terminal_shows_a_line_a_trial(bench: Bench, moments: Moments) -> None:
    study = bench.study(SEARCH)
    run(study)
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(trial_table(study.run.files.folder))
    lines = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert [line[:2] for line in cells] == [[str(n), "failed" if n in (3, 6) else "complete"] for n in range(1, 7)]
    assert cells[4] == ["5", "complete", "0.1667", "8", "0.01", "1 s"]


def test_a_run_without_a_study_has_no_part(bench: Bench) -> None:
    assert study_section(bench.folder) is None
    assert trial_table(bench.folder) is None


def test_it_tells_no_folder_of_the_machine(bench: Bench, moments: Moments) -> None:
    text = bench.folder / "text"
    text.touch()
    study = bench.study(f"""
  space:
    words.text: {{choices: ["{text}", null]}}
    learn.lr: {{choices: [2.0, 0.01]}}
  minimize: learn.valid_loss
  sampler: grid
""")
    run(study)
    section = study_section(study.run.files.folder)
    assert section is not None
    assert section.summary.endswith("with words.text=…/text learn.lr=0.01.")
    assert [row[3] for row in section.tables[0].rows] == ["…/text", "…/text", "null", "null"]

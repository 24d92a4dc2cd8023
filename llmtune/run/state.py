"""How far the runs below a folder are, told from their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmtune.run.events import read_events
from llmtune.run.folder import RunFolder, is_run
from llmtune.run.lock import FileLock


@dataclass(frozen=True)
class RunState:
    """done, stages: finished and planned ones; of a study, trials

    state: `running`, `done`, `stopped`, `failed`, or `interrupted` (it ended without saying so).

    last_event: seconds since the epoch.
    """

    name: str
    state: str
    done: int
    stages: int
    last_stage: str | None
    last_event: float | None


def run_states(runs: Path) -> list[RunState]:
    """Every run below `runs`, by name."""
    folders = sorted(filter(is_run, runs.glob("*"))) if runs.is_dir() else []
    return [_state(folder) for folder in folders]


def _state(folder: Path) -> RunState:
    files = RunFolder(folder)
    records = files.records()
    started = ended = last = None
    trials = 0
    for event in read_events(files.events):
        last = event["time"]
        if event["event"] == "run":
            started, ended, trials = event, None, event.get("trials", 0)
        elif event["event"] == "trial":
            trials = event["number"]
        elif event["event"] == "end":
            ended = event
    if FileLock(files.lock).is_held():
        state = "running"
    else:
        status = ended["status"] if ended else None
        words = {"done": "done", "Stopped": "stopped", None: "interrupted"}
        state = words.get(status, f"failed ({status})")
    planned = started["planned"] if started else len(records)
    if started and "trials" in started:
        return RunState(folder.name, state, trials, planned, f"trial {trials}" if trials else None, last)
    return RunState(folder.name, state, len(records), planned, records[-1][1].id if records else None, last)

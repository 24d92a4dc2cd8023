"""Makes the artifact of one stage: worker processes in its workshop, again with less memory, then into the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtune.artifacts import Artifact
from llmtune.errors import Disturbed, OutOfMemory, Stopped
from llmtune.run.display import Display
from llmtune.run.events import append_event
from llmtune.run.job import Job, Workshop
from llmtune.run.lock import FileLock
from llmtune.run.planning import PlannedNode
from llmtune.run.process import world_size
from llmtune.run.ranks import Conductor
from llmtune.run.store import Store
from llmtune.run.supervise import Outcome, StopSwitch, run_worker
from llmtune.stages.stage import LaunchedStage, Stage

_MOST_HALVINGS = 6


@dataclass(frozen=True)
class Maker:
    """What all stages of a run are made with.

    conductor: calls the other ranks of an outer launch to a stage
    events: the file of the run's events
    on_event: told what each worker tells, with the id of its stage
    """

    store: Store
    seed: int
    conductor: Conductor
    switch: StopSwitch
    display: Display
    events: Path
    on_event: Callable[[str, dict[str, Any]], None] | None

    def make(self, planned: PlannedNode, artifacts: Mapping[str, Artifact], log: Path) -> tuple[Artifact, int]:
        """Run workers until the artifact is made; after each out-of-memory with half the micro-batch. Returns it, and
        how often that was halved.

        artifacts: by the id of the stage that made them, those of all inputs among them
        log: where the workers' output goes
        Raises Stopped, Disturbed when the files it is made from changed meanwhile, or the error of the stage.
        """
        places = Workshop(self.store.workshop(planned.fingerprint))
        lock = self._workshop_lock(places)
        try:
            found = self.store.find(planned.fingerprint)  # another run may have made it while we waited
            if found:
                self.store.discard(planned.fingerprint)
                return found, 0
            halvings = 0
            stage = _from_copy(planned.stage, places)
            self._check_unchanged(planned, stage)
            while True:
                try:
                    outcome = self._work(planned, stage, artifacts, halvings, log)
                    break
                except OutOfMemory as error:
                    if halvings == _MOST_HALVINGS or not stage.can_halve(halvings + 1):
                        raise _no_memory(planned, error) from error
                    halvings += 1
                    text = f"out of memory: starting again with 1/{2**halvings} of the micro-batch (same global batch)"
                    self.display.note(text)
                    append_event(self.events, "out-of-memory", id=planned.node.id, halvings=halvings)
            self._check_unchanged(planned, stage, made=True)
            made = self._describe(planned, artifacts, outcome)
            cost = {"seconds": round(outcome.seconds, 3), "memory": outcome.memory, "disk": outcome.disk}
            return self.store.publish(made, places.output, cost), halvings
        finally:
            lock.release()

    def _work(
        self, planned: PlannedNode, stage: Stage, artifacts: Mapping[str, Artifact], halvings: int, log: Path
    ) -> Outcome:
        name = planned.node.id
        job = Job(
            kind=stage.kind,
            settings=stage.model_dump(mode="json", by_alias=True),
            inputs={
                key: str(self.store.place(artifacts[source].fingerprint).resolve())
                for key, source in planned.node.inputs.items()
            },
            seed=self.seed,
            workshop=str(self.store.workshop(planned.fingerprint).resolve()),
            halvings=halvings,
        )
        launch = call_ranks = None
        if isinstance(stage, LaunchedStage):
            launch, call_ranks = stage.launch, self.conductor.call if world_size() > 1 else None

        def on_event(event: dict[str, Any]) -> None:
            self.display.event(event)
            if self.on_event is not None:
                self.on_event(name, event)
            if event["event"] != "progress":
                rest = {key: value for key, value in event.items() if key not in ("event", "time")}
                append_event(self.events, event["event"], id=name, **rest)

        try:
            return run_worker(job, launch, log, self.switch, on_event, call_ranks)
        except Stopped as error:
            raise Stopped(f"stage '{name}': {error.what}") from error

    def _check_unchanged(self, planned: PlannedNode, stage: Stage, *, made: bool = False) -> None:
        """Refuse to make a result from other files than those it is to be known by; drop it where it is `made`.

        stage: the one planned, as it goes to the worker
        """
        if stage.identity() != planned.identity:
            if made:
                self.store.discard(planned.fingerprint)
            raise Disturbed(
                f"the files that stage '{planned.node.id}' reads changed after this run was planned",
                fix="run the same command again: it takes them as they are now, and what was finished before is kept",
            )

    def _describe(self, planned: PlannedNode, artifacts: Mapping[str, Artifact], outcome: Outcome) -> Artifact:
        node, stage = planned.node, planned.stage
        lineage = {
            "stage": node.id,
            "made_by": stage.kind,
            "fingerprint": planned.fingerprint,
            "settings": stage.described(planned.identity),
            "inputs": {name: artifacts[source].lineage for name, source in node.inputs.items()},
        }
        return Artifact(
            kind=stage.makes,
            folder=self.store.place(planned.fingerprint),
            fingerprint=planned.fingerprint,
            stage=node.id,
            made_by=stage.kind,
            metrics=outcome.metrics,
            lineage=lineage,
        )

    def _workshop_lock(self, places: Workshop) -> FileLock:
        lock = FileLock(places.lock)
        told = False

        def wait(holder: str) -> bool:
            nonlocal told
            if not told:
                self.display.note(f"another run (process {holder}) is making this artifact: waiting for it")
                told = True
            return not self.switch.presses

        if not lock.acquire(wait):
            raise Stopped()
        return lock


def _no_memory(planned: PlannedNode, error: OutOfMemory) -> OutOfMemory:
    halved = planned.stage.can_halve(0)
    return OutOfMemory(
        f"stage '{planned.node.id}' ran out of memory" + (" even with the smallest micro-batch" if halved else ""),
        where=error.where,
        fix="see `llmtune plan` for what it needs"
        + ("; a shorter row_tokens, an adapter or qlora needs less" if halved else ""),
    )


def _from_copy(stage: Stage, places: Workshop) -> Stage:
    """The stage as its workers get it: started by a copy of its launch file, which is checked before the first of them
    and still there for one that comes after it, whatever becomes of the file meanwhile."""
    if not isinstance(stage, LaunchedStage) or stage.launch is None:
        return stage
    copy = places.launch(stage.launch)
    copy.unlink(missing_ok=True)  # of an earlier run
    if stage.launch.is_file():  # else its contents are not those planned, as the check will find
        shutil.copyfile(stage.launch, copy)
    return stage.model_copy(update={"launch": copy})

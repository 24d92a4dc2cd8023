"""Runs a recipe: one stage after the other, each in a worker process, skipping what is done already."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtune.artifacts import Artifact
from llmtune.errors import CannotRunHere, Disturbed, GateFailed, LlmtuneError, Stopped
from llmtune.evaluate.gates import check, parse_gate
from llmtune.files import check_name, write_json, write_text
from llmtune.machine import Machine, this_machine
from llmtune.recipe import Recipe, dump_resolved, graph
from llmtune.run.display import Display
from llmtune.run.environment import environment
from llmtune.run.events import append_event
from llmtune.run.folder import RunFolder, StageRecord, scores_by_stage, told_to_the_user
from llmtune.run.job import Workshop
from llmtune.run.lock import FileLock
from llmtune.run.making import Maker
from llmtune.run.planning import PlannedNode, doubts, notes_of, plan_nodes, problems_of
from llmtune.run.ranks import Conductor
from llmtune.run.selection import Selection
from llmtune.run.store import cost_of, store_of
from llmtune.run.supervise import StopSwitch


class Run:
    """One execution of a recipe below `runs`. Use as: `with Run(...).locked() as run: run.go()`."""

    def __init__(
        self,
        recipe: Recipe,
        runs: Path,
        display: Display,
        machine: Machine | None = None,
        folder: Path | None = None,
    ) -> None:
        """folder: of this run, elsewhere than below `runs` by the recipe's name."""
        self.recipe = recipe
        self.files = RunFolder(folder or runs / recipe.name)
        check_name(self.files.folder)
        self.store = store_of(self.files.folder)
        self.display = display
        self.machine = machine or this_machine()
        self.switch = StopSwitch()
        # Told what each worker tells, with the id of its stage; `switch.press()` stops the run from there.
        self.on_event: Callable[[str, dict[str, Any]], None] | None = None

    def plan(self, needed_for: str | None = None) -> list[PlannedNode]:
        """Every stage with its fingerprint, estimate and, if it is done, its artifact; `needed_for` one: what it is
        made from and itself, and nothing else looked at."""
        nodes = graph.resolve_inputs(self.recipe)
        if needed_for is not None:
            nodes = graph.needed_for(nodes, needed_for)
        return plan_nodes(nodes, self.recipe.seed, self.store, self.machine)

    @contextmanager
    def locked(self) -> Iterator[Run]:
        """Hold the run folder; a second run in it is refused. What the system refuses meanwhile (a full disk, a folder
        that cannot be written) becomes a LlmtuneError."""
        lock = FileLock(self.files.lock)
        with told_to_the_user(self.files.folder):
            # By this folder a source that holds the runs tells them from documents: it is there before any of them.
            self.store.folder.mkdir(parents=True, exist_ok=True)
            if not lock.try_acquire():
                raise Disturbed(
                    f"this run folder is in use by process {lock.holder()}",
                    where=str(self.files.folder),
                    fix="wait for that run to end, or give this recipe another name",
                )
            try:
                yield self
            finally:
                lock.release()

    def go(self, selection: Selection | None = None) -> dict[str, StageRecord]:
        """Run what is selected and not yet done; returns the records of all finished stages by id.

        Raises Stopped, GateFailed, or the error of the stage that failed; what was finished stays finished.
        """
        selection = selection or Selection()
        nodes = self.plan()
        self._stages_by_id = {planned.node.id: planned.stage for planned in nodes}
        chosen = selection.ids([node.node.id for node in nodes])
        self._foretell([node for node in nodes if node.node.id in chosen and node.artifact is None])
        self._set_aside_strangers(nodes)
        write_text(self.files.recipe, dump_resolved(self.recipe))
        write_json(self.files.environment, environment())
        self._event("run", recipe=self.recipe.name, planned=len(nodes), chosen=sorted(chosen))
        conductor = Conductor(self.files.folder)
        maker = Maker(
            self.store, self.recipe.seed, conductor, self.switch, self.display, self.files.events, self.on_event
        )
        status = 1
        try:
            with self.switch:
                records = self._stages(nodes, chosen, selection.again, maker)
            status = 0
        except LlmtuneError as error:
            status = error.exit_code
            with contextlib.suppress(OSError):  # a full disk: the stage's own error is the one to tell
                self._event("end", status=type(error).__name__, what=error.what, where=error.where)
            raise
        finally:
            conductor.dismiss(status)
        self._event("end", status="done")
        return records

    def _stages(self, nodes: list[PlannedNode], chosen: set[str], again: bool, maker: Maker) -> dict[str, StageRecord]:
        records: dict[str, StageRecord] = {}
        artifacts: dict[str, Artifact] = {}
        evaluations = [planned for planned in nodes if planned.stage.kind == "evaluate"]
        for number, planned in enumerate(nodes):
            name = planned.node.id
            folder = self.files.stage_folder(number, name)
            if name in chosen:
                if self.switch.presses:
                    raise Stopped()
                if again:
                    self._forget(planned, folder)
                records[name] = self._one(planned, folder, artifacts, again, maker)
                if planned in evaluations:
                    self._gates(planned, folder, records, last=planned is evaluations[-1])
            else:
                record = self.files.read(folder)
                if record and record.artifact == planned.fingerprint and planned.artifact:
                    records[name] = record
            artifact = self.store.find(planned.fingerprint)
            if artifact is not None:
                artifacts[name] = artifact
        return records

    def _one(
        self,
        planned: PlannedNode,
        folder: Path,
        artifacts: dict[str, Artifact],
        again: bool,
        maker: Maker,
    ) -> StageRecord:
        """Make one stage's artifact, or find it done; returns its record."""
        done = self.files.read(folder)
        artifact = None if again else self.store.find(planned.fingerprint)
        if done and artifact and done.artifact == planned.fingerprint:
            self.display.skipped(planned, done)
            return done
        for source in planned.node.inputs.values():
            if source not in artifacts:
                raise LlmtuneError(
                    f"stage '{planned.node.id}' needs '{source}', which is not done",
                    fix=f"run it first: --from {source}, or run the whole recipe",
                )
        folder.mkdir(parents=True, exist_ok=True)
        reused, halvings = artifact is not None, 0
        if artifact:
            self._discard_leftovers(planned.fingerprint)
        else:
            self.display.started(planned)
            self._event("stage", id=planned.node.id, kind=planned.stage.kind, fingerprint=planned.fingerprint)
            artifact, halvings = maker.make(planned, artifacts, folder / "log.txt")
        record = StageRecord(
            id=planned.node.id,
            kind=planned.stage.kind,
            artifact=planned.fingerprint,
            inputs=dict(planned.node.inputs),
            metrics=artifact.metrics,
            planned={"memory": planned.plan.memory, "disk": planned.plan.disk, "seconds": planned.plan.seconds},
            actual=cost_of(self.store.place(planned.fingerprint)),
            reused=reused,
            halvings=halvings,
            gates=[],
        )
        self.files.write(folder, record)
        self._event("stage-done", id=planned.node.id, reused=reused, metrics=artifact.metrics)
        self.display.finished(planned, record)
        return record

    def _set_aside_strangers(self, nodes: list[PlannedNode]) -> None:
        """Move away what no longer belongs to the recipe: folders of another stage or place, and records of other
        settings, so that nobody takes them for results of this one."""
        places = {self.files.stage_folder(number, one.node.id): one.fingerprint for number, one in enumerate(nodes)}
        for folder in self.files.stage_folders():
            record = self.files.read(folder)
            if folder not in places or (record and record.artifact != places[folder]):
                self.files.set_aside(folder)

    def _forget(self, planned: PlannedNode, folder: Path) -> None:
        """Set a finished stage aside, record and artifact, so that it is made anew, and from the beginning."""
        self._discard_leftovers(planned.fingerprint)
        if self.store.find(planned.fingerprint):
            self.store.remove(planned.fingerprint)
        if folder.exists():
            self.files.set_aside(folder)

    def _discard_leftovers(self, fingerprint: str) -> None:
        """Drop the workshop of a finished artifact, which a kill left behind, unless somebody is at work there."""
        places = Workshop(self.store.workshop(fingerprint))
        lock = FileLock(places.lock)
        if places.folder.is_dir() and lock.try_acquire():
            self.store.discard(fingerprint)
            lock.release()

    def _gates(self, planned: PlannedNode, folder: Path, records: dict[str, StageRecord], last: bool) -> None:
        """After an evaluation: check the gates of the stage it measured, and the recipe's after the last one."""
        subject = planned.node.inputs["model"]
        blocks = [self._stages_by_id[subject].gates, self.recipe.gates if last else {}]
        gates = [parse_gate(metric, text) for block in blocks for metric, text in block.items()]
        if not gates:
            return
        results = check(gates, subject, scores_by_stage(records.values()))
        record = records[planned.node.id]
        record.gates[:] = [{"sentence": result.sentence, "ok": result.ok} for result in results]
        self.files.write(folder, record)
        for result in results:
            self.display.gate(result.sentence, result.ok)
        failed = [result.sentence for result in results if not result.ok]
        if failed:
            raise GateFailed(
                "; ".join(failed),
                where=f"gates of stage '{subject}'",
                fix="everything made so far is kept; change the recipe, or loosen the gate, and run again",
            )

    def _foretell(self, nodes: list[PlannedNode]) -> None:
        """Refuse what cannot work here, and say what may not, before anything starts."""
        if problems := problems_of(nodes):
            raise CannotRunHere("\n".join(problems), where=f"recipe '{self.recipe.name}' on this machine")
        for text in (*notes_of(nodes), *doubts(nodes, self.machine, self.files.folder)):
            self.display.note(text)

    def _event(self, kind: str, /, **fields: Any) -> None:
        append_event(self.files.events, kind, **fields)

"""A study: the trials of a recipe's `search:`, one after the other, and a recipe of the best.

Optuna's database holds finished trials alone. What the next one gets follows from them (sampler.py), its run goes on
where it was killed, and its end is one transaction: a study killed at any moment and gone on with is the same study.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.errors import CannotRunHere, Disturbed, LlmtuneError, RecipeError, Stopped
from llmtune.files import fingerprint, write_json, write_text
from llmtune.machine import Machine
from llmtune.recipe import Recipe, dump_resolved
from llmtune.recipe.load import Written
from llmtune.recipe.space import objective_node, watched_stage
from llmtune.run.display import Display
from llmtune.run.environment import environment
from llmtune.run.events import append_event
from llmtune.run.planning import PlannedNode, problems_of
from llmtune.run.process import launched_from_outside
from llmtune.run.runner import Run
from llmtune.search.best import best_text
from llmtune.search.forecast import StudyForecast, varied
from llmtune.search.record import MEASURED, REASON, SECONDS, StudyFolder, StudyMark, best_of, short, value_of, words_of
from llmtune.search.sampler import Space, quiet_optuna
from llmtune.search.trial import LossWatch, Outcome, run_trial
from llmtune.words import human_seconds

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

_VERSION = 2  # of what a trial's value is: perplexities in tokens of the first complete one


class Study:
    """The study of a recipe below `runs`, in the folder of the recipe's run.

    Use as: `study = Study(…)`, then `with study.run.locked(): study.go()`."""

    def __init__(self, written: Written, runs: Path, display: Display, machine: Machine | None = None) -> None:
        if launched_from_outside():
            raise CannotRunHere(
                "a study starts the trainings itself",
                where="accelerate launch",
                fix="run it with plain `llmtune run`, and name the launch file in the stages (`launch:`)",
            )
        self.written, self.recipe, self.display = written, written.recipe(), display
        self.space = Space(self.recipe)
        self.run = Run(self.recipe, runs, display, machine)
        self.files = StudyFolder(self.run.files.folder)
        self.node, self.figure = objective_node(self.recipe)

    def plan(self) -> list[PlannedNode]:
        """The stages of a trial, as the recipe has them without its search."""
        return self.run.plan(needed_for=self.node)

    def forecast(self) -> StudyForecast:
        """What is left to do of the study, estimated from the recipe's own values."""
        nodes, mark = self.plan(), self.files.read_mark()
        done = len(self.files.finished()) if mark and mark.fingerprint == self._fingerprint(nodes) else 0
        return StudyForecast(nodes, self._varied(nodes), self.space.settings.sampler, self.space.trials, done)

    def go(self) -> FrozenTrial:
        """Run the trials that are not done yet, write the best one's recipe, and return it.

        Raises Stopped when the user stops it, and LlmtuneError where no trial came to an end."""
        self._begin()
        try:
            best = self._trials()
        except LlmtuneError as error:
            with contextlib.suppress(OSError):  # a full disk: the error is the one to tell
                self._event("end", status=type(error).__name__, what=error.what, where=error.where)
            raise
        self._event("end", status="done")
        return best

    def _begin(self) -> None:
        """Refuse what no trial could do, set a study of something else aside, and say what this one is."""
        nodes = self.plan()
        own = self._varied(nodes)
        todo = [one for one in nodes if one.artifact is None and one.node.id not in own]
        if problems := problems_of(todo):
            raise CannotRunHere("\n".join(problems), where=f"recipe '{self.recipe.name}' on this machine")
        mark = StudyMark(
            self._fingerprint(nodes), self.space.settings.objective, self.space.direction, self.space.trials
        )
        before = self.files.read_mark()
        if self.files.folder.exists() and (before is None or before.fingerprint != mark.fingerprint):
            self.files.best.unlink(missing_ok=True)
            self.run.files.set_aside(self.files.folder)
            self.display.note("the search is another one now: the study so far was moved to previous/")
        self.files.write_mark(mark)
        write_text(self.run.files.recipe, dump_resolved(self.recipe))
        write_json(self.run.files.environment, environment())
        self._event("run", recipe=self.recipe.name, planned=mark.trials, trials=len(self.files.finished()))

    def _varied(self, nodes: Sequence[PlannedNode]) -> set[str]:
        return varied(nodes, self.space.settings.space)

    def _fingerprint(self, nodes: Sequence[PlannedNode]) -> str:
        """Of all that decides which trials there are and what they come to, but for their number."""
        settings = self.space.settings.model_dump(mode="json", exclude={"trials"})
        settings["order"] = list(self.space.settings.space)  # in which values are drawn, and a grid is gone through
        settings["version"] = _VERSION
        return fingerprint({"search": settings, "seed": self.recipe.seed, "base": nodes[-1].fingerprint})

    def _trials(self) -> FrozenTrial:
        database = self.files.open(self.space.direction)
        finished = database.get_trials()
        while len(finished) < self.space.trials:
            number = len(finished)
            self._check_unchanged()
            asked = self.space.ask(number, finished)
            self.display.trial(f"trial {number + 1} of {self.space.trials}: {words_of(asked.params)}")
            outcome = self._run(number, asked)
            self.files.add(database, self._trial(asked, outcome))
            finished = database.get_trials()
            self._tell(number, outcome, finished)
            if outcome.value is not None:
                self._write_best(finished)
            if outcome.stopped:
                raise Stopped("the study stopped as asked")
        return self._write_best(finished) or self._none_came_to_an_end(finished)

    def _check_unchanged(self) -> None:
        """Refuse to compare trials that do not read the same."""
        mark = self.files.read_mark()
        if mark is None or mark.fingerprint != self._fingerprint(self.plan()):
            raise Disturbed(
                "the files that the trials read changed during the study",
                where=str(self.files.folder),
                fix="run the same command again for a study of the files as they are now",
            )

    def _run(self, number: int, asked: Trial) -> Outcome:
        """Run one trial to its end, or as far as it gets."""
        try:
            recipe = _without_gates(self.written.with_values(self.space.values(asked.params)))
        except RecipeError as error:  # values that do not go together
            return Outcome("failed", reason=str(error))
        folder = self.files.trial(number)
        run = Run(recipe, self.files.folder, self.display, self.run.machine, folder)
        sign = 1 if self.space.direction == "minimize" else -1
        watch = LossWatch(watched_stage(self.recipe), asked, sign, folder / "validations.json")
        complete = (trial for trial in self.files.finished() if trial.state.name == "COMPLETE")
        first: dict[str, Any] = next((trial.user_attrs[MEASURED] for trial in complete), {})
        return run_trial(run, self.node, self.figure, watch, first)

    def _trial(self, asked: Trial, outcome: Outcome) -> FrozenTrial:
        """A finished trial as Optuna keeps it."""
        optuna = quiet_optuna()
        states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        sign = 1 if self.space.direction == "minimize" else -1
        return optuna.trial.create_trial(  # type: ignore[no-any-return]
            state=optuna.trial.TrialState[states[outcome.state]],
            value=outcome.value,
            params=asked.params,
            distributions=self.space.distributions,
            intermediate_values={step: sign * loss for step, loss in outcome.losses.items()},
            user_attrs={SECONDS: outcome.seconds, MEASURED: outcome.measured}
            | ({REASON: outcome.reason} if outcome.reason else {}),
        )

    def _tell(self, number: int, outcome: Outcome, finished: Sequence[FrozenTrial]) -> None:
        self._event("trial", number=number + 1, state=outcome.state, value=outcome.value, reason=outcome.reason)
        best = best_of(finished, self.space.direction)
        text = f"trial {number + 1} {outcome.state} after {human_seconds(outcome.seconds)}"
        if outcome.value is not None:
            text += f": {self.space.settings.objective} {short(outcome.value)}"
            text += ", the best so far" if best is not None and best.number == number else ""
        elif outcome.state == "pruned":
            step, loss = list(outcome.losses.items())[-1]
            text += f": validation loss {short(loss)} at step {step} is above the median"
        self.display.note(text + (f": {outcome.reason}" if outcome.reason else ""))

    def _write_best(self, finished: Sequence[FrozenTrial]) -> FrozenTrial | None:
        best = best_of(finished, self.space.direction)
        if best is not None:
            head = (
                f"# The best of {len(finished)} trials of the search in {self.written.file.name}: trial "
                f"{best.number + 1}, {self.space.settings.objective} {short(value_of(best))}."
            )
            write_text(self.files.best, best_text(self.written, self.space.values(best.params), head))
        return best

    def _none_came_to_an_end(self, finished: Sequence[FrozenTrial]) -> FrozenTrial:
        reasons = [trial.user_attrs[REASON] for trial in finished if REASON in trial.user_attrs]
        raise LlmtuneError(
            f"none of {len(finished)} trials came to an end; the first failed so: {reasons[0]}",
            where=str(self.files.folder),
            fix="mend the recipe or the space, and run again: what was made is kept",
        )

    def _event(self, kind: str, /, **fields: object) -> None:
        append_event(self.run.files.events, kind, **fields)


def _without_gates(recipe: Recipe) -> Recipe:
    """A trial is judged by its figure alone; gates are for the whole run of the best."""
    stages = [stage.model_copy(update={"gates": {}}) for stage in recipe.stages]
    return recipe.model_copy(update={"gates": {}, "stages": stages})

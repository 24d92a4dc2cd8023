"""What a run folder keeps of a study: `trials/study.json` (what is searched), `trials/study.db` (Optuna's finished
trials) and a folder for each trial's run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtune.errors import Disturbed
from llmtune.files import read_json, write_json
from llmtune.run.store import STUDY
from llmtune.search.sampler import quiet_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_NAME = "study"  # in a database of its own
# Attributes of a trial: what its stages took; why it failed; what others need to compare their value with its.
SECONDS, REASON, MEASURED = "seconds", "reason", "measured"


@dataclass(frozen=True)
class StudyMark:
    """fingerprint: of all that decides what the trials are and what they come to, but for their number
    objective, direction: `train.valid_loss`, `minimize`
    trials: how many it is to have"""

    fingerprint: str
    objective: str
    direction: str
    trials: int


class StudyFolder:
    """The files of the study in one run's folder."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "trials"
        self.best = run / "best.yaml"
        self._mark, self._database = self.folder / STUDY, self.folder / "study.db"

    def trial(self, number: int) -> Path:
        """The run folder of a trial (from 0; people count from 1)."""
        return self.folder / f"{number + 1:03d}"

    def read_mark(self) -> StudyMark | None:
        """What the study here is; None when there is none."""
        return StudyMark(**read_json(self._mark)) if self._mark.is_file() else None

    def write_mark(self, mark: StudyMark) -> None:
        """Say what the study here is: from now on there is one."""
        write_json(self._mark, asdict(mark))

    def open(self, direction: str) -> optuna.Study:
        """Optuna's study of the finished trials, in SQLite; made when there is none."""
        optuna = quiet_optuna()
        with self._refused():
            if not self._database.exists():
                begun = self._database.with_suffix(".tmp")
                begun.unlink(missing_ok=True)
                storage = optuna.storages.RDBStorage(f"sqlite:///{begun}")
                optuna.create_study(storage=storage, study_name=_NAME, direction=direction)
                storage.engine.dispose()
                begun.replace(self._database)  # whole or not at all, whenever it is killed
            return optuna.load_study(study_name=_NAME, storage=f"sqlite:///{self._database}")  # type: ignore[no-any-return]

    def add(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Add a finished trial, in one transaction."""
        with self._refused():
            study.add_trial(trial)

    def look(self) -> optuna.Study | None:
        """The same, to read alone; None when there is none."""
        if not self._database.exists():
            return None
        optuna = quiet_optuna()
        url = f"sqlite:///{self._database}"
        with self._refused():
            storage = optuna.storages.RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
            return optuna.load_study(study_name=_NAME, storage=storage)  # type: ignore[no-any-return]

    def finished(self) -> list[FrozenTrial]:
        """The finished trials, in order."""
        study = self.look()
        return study.get_trials() if study else []

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """Turns what the database refuses (a full disk, another program's lock) into an error for the user."""
        from sqlalchemy.exc import DatabaseError

        try:
            yield
        except (DatabaseError, quiet_optuna().exceptions.StorageInternalError) as error:
            reason = getattr(error.__cause__ or error, "orig", None) or error
            raise Disturbed(
                f"the study's database cannot be used: {reason}",
                where=str(self._database),
                fix="mend that, then run the same command: finished trials are kept",
            ) from error


def best_of(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The trial with the best value, the first of several; None when none has one."""
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    sign = 1 if direction == "minimize" else -1
    return min(complete, key=lambda trial: (sign * value_of(trial), trial.number), default=None)


def value_of(trial: FrozenTrial) -> float:
    """The value of a complete trial."""
    assert trial.value is not None
    return trial.value


def state_of(trial: FrozenTrial) -> str:
    """complete, pruned or failed."""
    return {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def words_of(params: Mapping[str, Any]) -> str:
    """A trial's choices in a line: `train.lr=0.00041 train.adapter.rank=8`."""
    return " ".join(f"{key}={short(value)}" for key, value in params.items())


def short(value: Any) -> str:
    """A chosen value as it stands in a recipe, numbers with four digits. A share stays one: 1.0 is no whole number."""
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e4:
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)

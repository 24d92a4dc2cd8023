"""The artifact store: each artifact once, under the fingerprint of what made it, shared by all runs beside it.

<runs>/.artifacts/<fingerprint>/         finished: its files and `artifact.json`
<runs>/.artifacts/.cache/<kind>/         what stages of a kind keep for later ones; may be deleted
<runs>/.artifacts/.work/<fingerprint>/   being made: `output/` (becomes the artifact), `work/` (state to resume from)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from llmtune.artifacts import DESCRIPTION, LOCATION, STORE, Artifact, read_artifact
from llmtune.errors import BadArtifact
from llmtune.files import files_below, publish_folder, read_json, stamps, write_json

ASIDE = ".aside"  # likewise, the folder of runs that are made to look at a recipe without touching its own
PREVIOUS = "previous"  # in a run's folder: what was set aside
STUDY = "study.json"  # in the folder that holds the trials of a run's study, each a run


class Store:
    """Artifacts below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, fingerprint: str) -> Path:
        """Where the artifact of this fingerprint stands, or would."""
        return self.folder / fingerprint

    def holds(self, artifact: Artifact) -> bool:
        """Whether the files of an artifact are here; those of a base model may lie elsewhere."""
        return artifact.folder == self.place(artifact.fingerprint)

    def workshop(self, fingerprint: str) -> Path:
        """Where the artifact of this fingerprint is made."""
        return self.folder / ".work" / fingerprint

    def find(self, fingerprint: str) -> Artifact | None:
        """The finished artifact, or None. Raises BadArtifact when files were lost or cut short since it was made."""
        place = self.place(fingerprint)
        if not place.is_dir():
            return None
        artifact = read_artifact(place)
        for name, size in read_json(place / DESCRIPTION).get("files", {}).items():
            file = place / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found:,} bytes"
                raise BadArtifact(
                    f"{name} {state}, but {size:,} bytes were written when this {artifact.kind} was made",
                    where=str(place),
                    fix="delete this folder and run the recipe again; everything else is kept",
                )
        if not self.holds(artifact) and _deciding_stamps(artifact.folder) != read_json(place / DESCRIPTION).get(
            "stamps"
        ):
            # What it pointed at is gone, or another model stands there: find the model anew.
            shutil.rmtree(place, ignore_errors=True)  # who only looks may be a guest in somebody else's store
            return None
        return artifact

    def publish(self, artifact: Artifact, output: Path, cost: dict[str, float]) -> Artifact:
        """Make a finished `output` folder the artifact: describe it, sync, rename; then drop its workshop.

        cost: measured seconds, peak memory in bytes and disk bytes, kept beside the description.
        """
        location = None
        if (output / LOCATION).is_file():
            location = read_json(output / LOCATION)["location"]
            (output / LOCATION).unlink()
        files = {path.relative_to(output).as_posix(): path.stat().st_size for path in files_below(output)}
        description = artifact.describe() | {"cost": cost, "files": files}
        if location:
            description |= {"location": location, "stamps": _deciding_stamps(Path(location))}
        write_json(output / DESCRIPTION, description)
        _let_be_read(output)
        place = self.place(artifact.fingerprint)
        publish_folder(output, place)
        self.discard(artifact.fingerprint)
        return read_artifact(place)

    def discard(self, fingerprint: str) -> None:
        """Drop the partial state of an artifact (the lock file last, which its holder still has open)."""
        shutil.rmtree(self.workshop(fingerprint), ignore_errors=True)

    def remove(self, fingerprint: str) -> None:
        """Set a finished artifact aside under `.replaced/`, so that it is made again."""
        aside = self.folder / ".replaced" / fingerprint
        if aside.exists():
            shutil.rmtree(aside)
        aside.parent.mkdir(parents=True, exist_ok=True)
        self.place(fingerprint).rename(aside)


def store_of(run: Path) -> Store:
    """The store of the run in this folder, from wherever it is named: beside it, one up for a run aside, or beside the
    run whose study it is a trial of. Beside the link, where the run's own folder was moved away and linked to."""
    runs = Path(os.path.abspath(run)).parent
    if (runs / STUDY).is_file():
        return store_of(runs.parent.parent if runs.parent.name == PREVIOUS else runs.parent)
    return Store((runs.parent if runs.name == ASIDE else runs) / STORE)


def _deciding_stamps(folder: Path) -> dict[str, list[int]]:
    """Of the files that decide a model that stays where it lies. Others may change: the runs themselves may stand in
    its folder."""
    from llmtune.models.find import deciding_files

    return stamps(deciding_files(folder), folder)


def _let_be_read(output: Path) -> None:
    """Give every file the permissions that files of this user usually have, as the description has them: safetensors
    lets nobody else read the weights it writes, and a store may be shared. Where that is refused they stay as they are.
    """
    usual = stat.S_IMODE((output / DESCRIPTION).stat().st_mode)
    for path in files_below(output):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode | usual != mode and not path.is_symlink():
            with contextlib.suppress(PermissionError):
                path.chmod(mode | usual)


def cost_of(place: Path) -> dict[str, float]:
    """What making a stored artifact took: seconds, memory, disk."""
    return dict(read_json(place / DESCRIPTION).get("cost", {}))

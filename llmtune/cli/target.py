"""What a person means by a model or a corpus on the command line: a file, a folder, a run, or a model's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.files import check_name
from llmtune.models.files import model_at, model_in
from llmtune.monitor import Monitor
from llmtune.run.folder import StageRecord, artifacts_of_run, is_run
from llmtune.words import printable

if TYPE_CHECKING:
    from llmtune.artifacts import Artifact


def find_model(name: str, monitor: Monitor, *, trust_remote_code: bool = False) -> Path:
    """The GGUF file or Hugging Face folder that `name` means.

    A `.gguf` file; a bundle or another folder with a GGUF file or a config.json; a run folder (its last bundle with a
    whole model in it, else its last checkpoint); else a model's name, fetched or converted when needed.
    trust_remote_code: fetch Python code that comes with the model too
    Raises LlmtuneError or a subclass saying what was found instead."""
    path = Path(name).expanduser()
    if path.exists() or printable(name) != name:
        check_name(path)
        return _model_of_run(path) if is_run(path) else model_at(path)
    from llmtune.models.find import resolve
    from llmtune.models.reference import ModelReference

    return resolve(ModelReference(name=name, trust_remote_code=trust_remote_code), monitor)


def find_run(named: Path, runs: Path) -> Path:
    """The folder of the run that `named` means: a folder, or a name below `runs`."""
    return runs / named if is_run(runs / named) and not is_run(named) else named


def find_corpus(path: Path) -> Path:
    """The corpus folder that `path` means: itself, or the one that a run's models were scored on."""
    if is_run(path):
        made = _made(path)
        scored_on = [record.inputs.get("corpus") for record, _ in made if record.kind == "evaluate"]
        corpora = [artifact for _, artifact in made if artifact.kind == "corpus"]
        chosen = [artifact for artifact in corpora if artifact.stage in scored_on] or corpora
        if not chosen:
            raise LlmtuneError("this run has made no corpus yet", where=str(path))
        return chosen[-1].folder
    if not (path / "card.json").is_file():
        raise BadArtifact("is no corpus (no card.json)", where=str(path), fix="name a run folder, or a corpus artifact")
    return path


def find_made_corpus(path: Path) -> Path:
    """The corpus folder that `path` means: itself, or the first that a run made, from the documents themselves."""
    if is_run(path):
        for _, artifact in _made(path):
            if artifact.kind == "corpus":
                return artifact.folder
    return find_corpus(path)


def _made(run: Path) -> list[tuple[StageRecord, Artifact]]:
    """The finished stages of a run whose artifacts are there, in order."""
    return [(record, artifact) for record, artifact in artifacts_of_run(run) if artifact is not None]


def _model_of_run(run: Path) -> Path:
    made = [artifact for _, artifact in _made(run)]
    for kind in ("bundle", "checkpoint"):
        for artifact in reversed(made):
            if artifact.kind == kind and (found := model_in(artifact.folder)):
                return found
    raise LlmtuneError("this run has made no model yet", where=str(run), fix=f"llmtune run {run / 'recipe.yaml'}")

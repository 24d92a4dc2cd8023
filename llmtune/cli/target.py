"""What a person means by a model or a corpus on the command line: a file, a folder, a run, or a model's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmtune.errors import BadArtifact, LlmtuneError
from llmtune.models.files import model_in
from llmtune.monitor import Monitor

if TYPE_CHECKING:
    from llmtune.artifacts import Artifact
    from llmtune.run.folder import StageRecord


def find_model(name: str, monitor: Monitor) -> Path:
    """The GGUF file or Hugging Face folder that `name` means.

    A `.gguf` file; a bundle or another folder with a GGUF file or a config.json; a run folder (its last bundle with a
    whole model in it, else its last checkpoint); else a model's name, fetched or converted when needed.
    Raises LlmtuneError or a subclass saying what was found instead."""
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise BadArtifact("is a file but no .gguf", where=name, fix="name a GGUF file, a model folder or a run")
        return path
    if path.is_dir():
        if is_run(path):
            return _model_of_run(path)
        found = model_in(path)
        if found is None:
            raise BadArtifact(_what_it_is(path), where=name, fix="name a GGUF file, a model folder or a run folder")
        return found
    from llmtune.models.find import resolve
    from llmtune.models.reference import ModelReference

    return resolve(ModelReference.parse(name), monitor)


def find_corpus(path: Path) -> Path:
    """The corpus folder that `path` means: itself, or the one that a run's models were scored on."""
    if is_run(path):
        made = artifacts_of_run(path)
        scored_on = [record.inputs.get("corpus") for record, _ in made if record.kind == "evaluate"]
        corpora = [artifact for _, artifact in made if artifact.kind == "corpus"]
        chosen = [artifact for artifact in corpora if artifact.stage in scored_on] or corpora
        if not chosen:
            raise LlmtuneError("this run has made no corpus yet", where=str(path))
        return chosen[-1].folder
    if not (path / "card.json").is_file():
        raise BadArtifact("is no corpus (no card.json)", where=str(path), fix="name a run folder, or a corpus artifact")
    return path


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run."""
    return (path / "recipe.yaml").is_file() and (path / "events.jsonl").is_file()


def artifacts_of_run(run: Path) -> list[tuple[StageRecord, Artifact]]:
    """The finished stages of a run and what they made, in order."""
    from llmtune.run.folder import RunFolder
    from llmtune.run.store import Store

    store = Store(run.resolve().parent / ".artifacts")
    records = [record for _, record in RunFolder(run).records()]
    return [(record, artifact) for record in records if (artifact := store.find(record.artifact))]


def _model_of_run(run: Path) -> Path:
    made = [artifact for _, artifact in artifacts_of_run(run)]
    for kind in ("bundle", "checkpoint"):
        for artifact in reversed(made):
            if artifact.kind == kind and (found := model_in(artifact.folder)):
                return found
    raise LlmtuneError("this run has made no model yet", where=str(run), fix=f"llmtune run {run / 'recipe.yaml'}")


def _what_it_is(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "holds an adapter alone, which is no model without its base"
    if (folder / "card.json").is_file():
        return "is a corpus, not a model"
    return "holds no model (no config.json, no .gguf file)"

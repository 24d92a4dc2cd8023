"""Models of the Hugging Face hub: commits, headers, downloads. Imports no torch.

HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE work as with every program that uses huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from llmtune.errors import BadArtifact, CannotRunHere, LlmtuneError
from llmtune.files import read_json, write_text
from llmtune.models.files import BESIDE_WEIGHTS
from llmtune.models.safetensors_header import INDEX, SINGLE, StoredTensor, weight_files
from llmtune.models.shape import ModelShape, logical_shapes

# Never pickles; Python code only for those who allow it.
WANTED = (
    "model*.safetensors",
    INDEX,
    "config.json",
    "README.md",
    *(pattern for pattern in BESIDE_WEIGHTS if pattern != "*.py"),
)
TIMEOUT = 15.0  # seconds without an answer


@cache
def commit_of(repository: str, revision: str | None) -> str:
    """The commit that a branch or tag stands at, as the hub says, or, when it does not answer, the local cache. Asked
    once a process, so that a plan and its run mean the same commit."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    with _told(repository, revision):
        try:
            return str(HfApi().model_info(repository, revision=revision, timeout=TIMEOUT).sha)
        except Exception as error:
            kept = _reference(repository, revision or "main") if _gives_no_answer(error) else None
            if kept is None:
                raise
            return kept


def local_snapshot(repository: str, commit: str) -> Path | None:
    """The downloaded folder of a commit if all its weights are there."""
    folder = _repository_folder(repository) / "snapshots" / commit
    try:
        weight_files(folder)
    except BadArtifact:
        return None
    return folder if (folder / "config.json").is_file() else None


def download(repository: str, commit: str, revision: str | None, *, code: bool) -> Path:
    """Download the safetensors checkpoint of a commit, whatever of it is lacking; returns its folder. When all of it is
    there, the hub is not asked.

    revision: the branch or tag that stood at this commit, remembered for when the hub cannot be asked
    code:     also its Python files
    """
    from huggingface_hub import HfApi, snapshot_download

    patterns = [*WANTED, "*.py"] if code else list(WANTED)
    with _told(repository, commit):
        try:
            if local_snapshot(repository, commit) is None:
                names = HfApi().list_repo_files(repository, revision=commit)
                if SINGLE not in names and INDEX not in names:
                    _refuse_other_formats(repository, names)
            folder = Path(snapshot_download(repository, revision=commit, allow_patterns=patterns))
        except Exception as error:
            if not _gives_no_answer(error):
                raise
            # The client compares what is there with the list of files that it kept; raises when something is lacking.
            folder = Path(
                snapshot_download(repository, revision=commit, allow_patterns=patterns, local_files_only=True)
            )
    if (revision or "main") != commit:  # the hub's client does this only for downloads by branch
        write_text(_repository_folder(repository) / "refs" / (revision or "main"), commit)
    return folder


def remote_shape(repository: str, commit: str) -> ModelShape:
    """The shape of a model from the headers of its files, without downloading weights."""
    from huggingface_hub import get_safetensors_metadata, hf_hub_download
    from huggingface_hub.errors import NotASafetensorsRepoError

    with _told(repository, commit):
        try:
            found = get_safetensors_metadata(repository, revision=commit)
        except NotASafetensorsRepoError:
            _refuse_other_formats(repository, [])
        config = read_json(Path(hf_hub_download(repository, "config.json", revision=commit)))
    stored = {
        name: StoredTensor(tuple(tensor.shape), tensor.data_offsets[1] - tensor.data_offsets[0])
        for file in found.files_metadata.values()
        for name, tensor in file.tensors.items()
    }
    return ModelShape(config, logical_shapes(config, stored), sum(tensor.size for tensor in stored.values()))


def card(repository: str, commit: str) -> Path | None:
    """The model card (README.md) of a commit, downloaded if need be; None when there is none to be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    unavailable: tuple[type[Exception], ...] = (EntryNotFoundError, HfHubHTTPError, *_unreachable())
    try:
        return Path(hf_hub_download(repository, "README.md", revision=commit))
    except unavailable:
        return None


def _refuse_other_formats(repository: str, names: list[str]) -> None:
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    found = f" (only {pickles[0]}, a format whose loading runs code)" if pickles else ""
    raise CannotRunHere(
        f"this repository has no safetensors weights{found}",
        where=f"hub: {repository}",
        fix="choose a revision or a repository with model.safetensors, or convert it and give the folder",
    )


def _repository_folder(repository: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / ("models--" + repository.replace("/", "--"))


def _reference(repository: str, revision: str) -> str | None:
    file = _repository_folder(repository) / "refs" / revision
    return file.read_text().strip() if file.is_file() else None


def _unreachable() -> tuple[type[Exception], ...]:
    import httpx
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return (httpx.TransportError, OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError)


def _gives_no_answer(error: Exception) -> bool:
    """Whether the hub was not reached, wants to be asked less, or failed itself: nothing is said about the model."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return isinstance(error, _unreachable()) or status == 429 or status >= 500


@contextmanager
def _told(repository: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into an error that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"hub: {repository}" + (f"@{revision}" if revision else "")
    try:
        yield
    except LlmtuneError:
        raise
    except GatedRepoError as error:
        raise CannotRunHere(
            "this model is only given to those who accepted its terms",
            where=where,
            fix="accept them on the model's page, then set HF_TOKEN to a token of that account",
        ) from error
    except RevisionNotFoundError as error:
        raise CannotRunHere("the hub knows the model but not this revision", where=where) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise HubMissing(
            "the hub has no such model, or it is private",
            where=where,
            fix="check the id; for a private one set HF_TOKEN",
        ) from error
    except _unreachable() as error:
        raise HubMissing(
            "the hub cannot be reached, and this model was not, or not wholly, downloaded before", where=where
        ) from error
    except HfHubHTTPError as error:
        raise CannotRunHere(f"the hub answered with an error: {error}", where=where, fix="try again later") from error


class HubMissing(CannotRunHere):
    """The hub has no such model, or cannot be asked."""

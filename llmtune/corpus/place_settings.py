"""How to reach a place that is not on this disk, and how far to unpack an archive. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from llmtune.settings import Settings

# protocol → the package that fsspec needs for it. No other protocol is tried: some of fsspec's read local files, chain
# one into another, or run what they read.
PROTOCOLS = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "memory": "fsspec",
}
_SECRET = re.compile(
    r"key|secret|token|passw|passphrase|credential|auth|cookie|signature|connection_string", re.IGNORECASE
)
_FROM_ENVIRONMENT = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_WAYS = frozenset({"anon", "cloud", "google_default"})  # what gcsfs takes for a token and is none


class UnpackSettings(Settings):
    """How far an archive or a compressed file is unpacked: it may come from anybody, and be made to fill a disk."""

    max_file_bytes: int = Field(
        16 << 30, ge=1, description="Largest file taken out of it; it stands in the work folder while it is read."
    )
    max_total_bytes: int = Field(1 << 40, ge=1, description="Most bytes unpacked from one archive, all in all.")
    max_ratio: float = Field(
        200,
        ge=1,
        description="Most bytes unpacked for each byte of the archive, beyond the first 64 MiB. Text packs 3 to 20 "
        "times, logs up to 100; a bomb 1000 and more.",
    )
    max_files: int = Field(1_000_000, ge=1, description="Most entries of one archive that are looked at.")


def checked_place(place: str | Path) -> str | Path:
    """A URL that can be read, or a path. Raises ValueError."""
    if isinstance(place, Path):
        return place
    protocol = place.partition("://")[0]
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS if name != "memory")
        raise ValueError(f"{protocol}:// is not read; known are {known} and paths on this disk")
    if protocol == "hf" and not place.startswith("hf://datasets/"):
        raise ValueError("a data set of the Hugging Face hub is at hf://datasets/organisation/name")
    if "@" in urlsplit(place).netloc and protocol != "hf":
        raise ValueError("a password in a URL would be written into every run: use `storage`")
    return place


def checked_storage(storage: dict[str, Any]) -> dict[str, Any]:
    """Options for a store, without secrets: a recipe is copied into every run, so a secret is named by its environment
    variable (`secret: $MY_SECRET`). Raises ValueError."""
    for name, value in storage.items():
        if isinstance(value, dict):
            checked_storage(value)
        elif isinstance(value, str) and "://" in value and "@" in urlsplit(value).netloc:
            raise ValueError(f"storage.{name} holds a password, which would be written into every run")
        elif isinstance(value, str) and _SECRET.search(name) and not _is_harmless(value):
            variable = f"MY_{name.upper()}"
            raise ValueError(
                f"storage.{name} would be written into every run as it stands: put it into an environment variable "
                f"and write `{name}: ${variable}` here; or leave it to the store's own ways (AWS_ACCESS_KEY_ID, "
                "~/.aws, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN)"
            )
    return storage


def _is_harmless(value: str) -> bool:
    return value in _WAYS or _FROM_ENVIRONMENT.fullmatch(value) is not None

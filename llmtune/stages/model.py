"""The implicit first stage: find the base model. It makes a checkpoint that stays where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmtune.artifacts import LOCATION, Artifact
from llmtune.extras import have, missing
from llmtune.files import write_json
from llmtune.machine import Machine
from llmtune.models.gguf_header import READ_BACK_BYTES
from llmtune.models.reference import ModelReference
from llmtune.stages.stage import Context, Forecast, Plan, Stage

_LIBRARIES = 450 << 20  # reading SmolLM2-135M back took 1.23 GB with them
_HEADERS_ONLY = 100 << 20


class ModelStage(Stage):
    """Resolve the recipe's `model` into a Hugging Face folder: found, downloaded, or converted from GGUF, once."""

    kind: ClassVar[str] = "model"
    makes: ClassVar[str] = "checkpoint"

    model: ModelReference = Field(description="The base model: a short name, folder, .gguf file or hub id.")

    def identity(self) -> dict[str, Any]:
        """The contents of the model, not its place, and its name, which travels in the lineage of all it leads to."""
        from llmtune.models.find import display_name, identity

        return {"name": display_name(self.model), "model": identity(self.model)}

    def described(self, identity: dict[str, Any]) -> dict[str, Any]:
        """With the licence, which is no part of the identity: whether it is known can depend on the hub being there."""
        from llmtune.models.find import licence

        return identity | {"licence": licence(self.model)}

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Headers only. Raises LlmtuneError when the model is not to be found: nothing after it could be planned."""
        from llmtune.models.find import find_shape, identity

        shape = find_shape(self.model)
        problems: list[str] = []
        notes: list[str] = []
        memory, disk, gguf = _HEADERS_ONLY, 0, self._is_gguf()
        if gguf:
            memory = _LIBRARIES + READ_BACK_BYTES * shape.parameters
            disk = shape.bytes
            if not have("gguf"):
                problems.append(str(missing("gguf", "reading a GGUF file")))
        elif self.model.hub_id is not None:
            disk = shape.bytes
            if self.model.revision is None:
                commit = identity(self.model)["commit"]
                notes.append(
                    f"{self.model.hub_id} stands at commit {commit} now; when its main branch moves on, all that "
                    "follows is made anew (model.revision keeps to a commit)"
                )
        return Plan(
            makes=Forecast(kind=self.makes, bytes=shape.bytes, shape=shape, tokenizer=self.model.path),
            memory=memory,
            disk=disk,
            notes=tuple(notes),
            problems=tuple(problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Leave the folder's place for the store; the metrics carry name, size, family and licence."""
        from llmtune.models.find import display_name, licence, resolve
        from llmtune.models.shape import read_shape

        folder = resolve(self.model, context.monitor).resolve()
        shape = read_shape(folder)
        write_json(context.output / LOCATION, {"location": str(folder)})
        return {
            "name": display_name(self.model),
            "licence": licence(self.model),
            "family": shape.family,
            "parameters": shape.parameters,
            "bytes": shape.bytes,
            "trust_remote_code": self.model.trust_remote_code,
        }

    def _is_gguf(self) -> bool:
        known, path = self.model.known, self.model.path
        return bool(known.wheel) if known else path is not None and path.suffix == ".gguf"

"""Small stages with one of every sort of setting, so that the recipe language is tested apart from the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.models.reference import ModelReference
from llmtune.settings import RecipePath, Settings
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage


class _Toy(Stage):
    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        return Plan(makes=Forecast(self.makes, 0), memory=0, disk=0)

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        return {}


class ToySource(Settings):
    """A place with documents."""

    path: RecipePath = Field(description="Where the documents are.")
    format: Literal["auto", "html", "markdown"] = Field("auto", description="How to read them.")


class ToyCorpus(_Toy):
    """Reads documents.

    And a second paragraph."""

    kind: ClassVar[str] = "corpus"
    makes: ClassVar[str] = "corpus"
    sources: list[ToySource] = Field(min_length=1, description="Where the documents come from.")
    near_duplicates: float | None = Field(0.8, ge=0, le=1, description="Similarity that counts as the same.")


class ToyAdapter(Settings):
    """A low-rank adapter."""

    type: Literal["lora", "qlora", "dora"] = Field("lora", description="Its kind.")
    rank: int = Field(16, ge=1, description="Its rank.")
    targets: list[str] | Literal["all"] = Field("all", description="Layers it is on.")


class ToyTrain(_Toy):
    """Trains a model."""

    kind: ClassVar[str] = "train"
    makes: ClassVar[str] = "checkpoint"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("checkpoint", "checkpoint", not_made_by=("quantize",)),
        Need("corpus", "corpus"),
    )
    tokens: int = Field(1000, gt=0, description="Tokens to train on.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    adapter: ToyAdapter | None = Field(None, description="Null: train every weight.")
    compile: bool = Field(False, description="Use torch.compile.")
    warmup: int | float = Field(0.1, ge=0, description="Steps, or their share.")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="Numbers of the forward pass.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.adapter and self.adapter.type == "qlora" and self.precision == "fp32":
            raise ValueError("qlora trains in bf16; precision fp32 cannot go with it")
        return self


class ToyQuantize(_Toy):
    """Quantizes a model."""

    kind: ClassVar[str] = "quantize"
    makes: ClassVar[str] = "checkpoint"
    needs: ClassVar[tuple[Need, ...]] = (
        Need("checkpoint", "checkpoint", not_made_by=("quantize",)),
        Need("corpus", "corpus", optional=True),
    )
    bits: Literal[3, 4, 8] = Field(4, description="Bits of a weight.")


class ToyExport(_Toy):
    """Exports a model."""

    kind: ClassVar[str] = "export"
    makes: ClassVar[str] = "bundle"
    needs: ClassVar[tuple[Need, ...]] = (Need("checkpoint", "checkpoint"),)
    format: Literal["hf", "gguf"] = Field("hf", description="File format.")


class ToyMerge(_Toy):
    """Merges two models."""

    kind: ClassVar[str] = "merge"
    makes: ClassVar[str] = "checkpoint"
    needs: ClassVar[tuple[Need, ...]] = (Need("checkpoint", "checkpoint"), Need("other", "checkpoint"))


class ToyDistill(_Toy):
    """Teaches one model by another."""

    kind: ClassVar[str] = "distill"
    makes: ClassVar[str] = "checkpoint"
    needs: ClassVar[tuple[Need, ...]] = (
        *ToyTrain.needs,
        Need("teacher", "checkpoint", untouched_by=("distill", "quantize"), setting="teacher"),
    )
    teacher: str | ModelReference | None = Field(None, description="Whom to learn from.")


KINDS: dict[str, type[Stage]] = {
    cls.kind: cls for cls in (ToyCorpus, ToyTrain, ToyQuantize, ToyExport, ToyMerge, ToyDistill)
}

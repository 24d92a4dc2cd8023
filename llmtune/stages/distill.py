"""Stage `distill`: a student checkpoint, a teacher and a corpus → the student, taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.models.reference import ModelReference
from llmtune.stages.stage import Forecast, Need, Plan
from llmtune.stages.train import TrainStage

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape
    from llmtune.training.distillation import Teacher


class DistillStage(TrainStage):
    """Train a model (the student) to predict what another one (the teacher) predicts, live, on the corpus' text: this
    is how to get back what pruning or splitting into experts took. Both have one tokenizer."""

    kind: ClassVar[str] = "distill"
    version: ClassVar[int] = 100 * TrainStage.version + 1  # its loop is that of a training
    needs: ClassVar[tuple[Need, ...]] = (
        *TrainStage.needs,
        Need("teacher", "checkpoint", untouched_by=("prune", "moe", "distill", "quantize"), setting="teacher"),
    )
    not_identity: ClassVar[frozenset[str]] = TrainStage.not_identity | {"teacher"}

    teacher: str | ModelReference | None = Field(
        None,
        description="Whom to learn from: the id of an earlier stage (`base` is the base model), or a block `{name: …}` "
        "that names another model; default: the last checkpoint that was not pruned, split, distilled or quantized, "
        "and not made from one that was.",
    )
    temperature: float = Field(
        1.0, ge=1, le=20, description="Softens the predictions of both: higher ones show more of the unlikely tokens."
    )
    data_loss: float = Field(
        0.25, ge=0, lt=1, description="Share of the data's own next-token loss in the objective; the rest is the KL "
        "divergence from the teacher's predictions."
    )  # fmt: skip

    def inputs_needed(self) -> tuple[Need, ...]:
        """One that is named may be any that is whole: a larger model can teach by way of one of middle size."""
        if self.teacher is None:
            return self.needs
        return (*TrainStage.needs, Need("teacher", "checkpoint", not_made_by=("quantize",), setting="teacher"))

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """As of a training; and where the tokenizers of both are at hand, whether they are one."""
        from llmtune.models.vocabulary import conflict

        plan = super().plan(inputs, machine)
        teacher, student = inputs["teacher"].tokenizer, inputs["checkpoint"].tokenizer
        if teacher is None or student is None or teacher == student:
            return plan
        if not (difference := conflict(teacher, student)):
            return plan
        problem = f"the teacher has another vocabulary: {difference}; take a teacher with the same tokenizer"
        return replace(plan, problems=(*plan.problems, problem))

    def teacher_shape(self, inputs: Mapping[str, Forecast]) -> ModelShape | None:
        return inputs["teacher"].shape

    def taught_by(self, inputs: Mapping[str, Artifact]) -> Teacher:
        from llmtune.training.distillation import Teacher

        source = inputs["teacher"]
        trust = bool(source.metrics.get("trust_remote_code"))
        return Teacher(source.folder, self.temperature, self.data_loss, trust)

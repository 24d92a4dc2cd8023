"""Stage `train`: a checkpoint and a corpus → a checkpoint that knows the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.stages.stage import Context, Forecast, LaunchedStage, Need, Plan, Stage
from llmtune.training.settings import TrainSettings

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape
    from llmtune.training.distillation import Teacher


class TrainStage(TrainSettings, LaunchedStage):
    """Continue training a model: all its weights, or a low-rank adapter that is merged in the end.

    Texts are packed into rows and trained on whole; conversations are trained on the assistant's answers.
    """

    kind: ClassVar[str] = "train"
    makes: ClassVar[str] = "checkpoint"
    keeps_tokenizer: ClassVar[bool] = True
    version: ClassVar[int] = 2
    needs: ClassVar[tuple[Need, ...]] = (
        Need("checkpoint", "checkpoint", not_made_by=("quantize",)),
        Need("corpus", "corpus"),
    )
    not_identity: ClassVar[frozenset[str]] = Stage.not_identity | {"checkpoint_steps"}

    @property
    def makes_adapter(self) -> bool:
        return self.adapter is not None

    def can_halve(self, halvings: int) -> bool:
        return min(self.micro_batch, self.batch_rows) >> halvings >= 1

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """From the model's shape and the corpus' tokens alone; see llmtune/training/estimate.py."""
        from llmtune.training.estimate import estimate
        from llmtune.training.launch import read_launch

        checkpoint, corpus = inputs["checkpoint"], inputs["corpus"]
        launch, teacher = read_launch(self.launch), self.teacher_shape(inputs)
        needs = estimate(self, checkpoint.shape, corpus.tokens, machine, launch, teacher)
        size = needs.bytes or checkpoint.bytes
        adapter = self.adapter.model_dump(mode="json") if self.adapter else None
        makes = Forecast(self.makes, bytes=size, shape=checkpoint.shape, adapter=adapter)
        return Plan(
            makes,
            memory=needs.memory,
            disk=needs.disk,
            seconds=needs.seconds,
            notes=needs.notes,
            problems=needs.problems,
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Train; every rank of a launch comes here, rank 0 writes the artifact and has the metrics."""
        from llmtune.training.session import train

        base = inputs["checkpoint"]
        trust = bool(base.metrics.get("trust_remote_code"))
        metrics = train(
            base.folder,
            inputs["corpus"].folder,
            self,
            output=context.output,
            work=context.work,
            seed=context.seed,
            monitor=context.monitor,
            halvings=context.halvings,
            teacher=self.taught_by(inputs),
            trust_remote_code=trust,
        )
        return metrics and {**metrics, "trust_remote_code": trust}

    def teacher_shape(self, inputs: Mapping[str, Forecast]) -> ModelShape | None:
        """The shape of the model to learn from, where there is one and it is known."""
        return None

    def taught_by(self, inputs: Mapping[str, Artifact]) -> Teacher | None:
        """The model to learn from, where there is one."""
        return None

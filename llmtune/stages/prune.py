"""Stage `prune`: a checkpoint → a smaller one of the same architecture, with fewer layers and narrower feed-forward
blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.machine import Machine
from llmtune.stages.calibration import CalibrationSettings, problems_and_notes
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

if TYPE_CHECKING:
    from llmtune.compress.prune_target import Wish

# A whole number is a count. One neuron is nobody's wish: `keep_width: 1` is the share.
_Share = Annotated[float, Field(gt=0, le=1)]
_Neurons = Annotated[int, Field(ge=2)]
_Layers = Annotated[int, Field(ge=1)]


class PruneStage(Stage):
    """Leave out the layers and the neurons of the feed-forward blocks that a model of this corpus misses least. A
    `distill` stage behind it brings most of the quality back."""

    kind: ClassVar[str] = "prune"
    makes: ClassVar[str] = "checkpoint"
    keeps_tokenizer: ClassVar[bool] = True
    needs: ClassVar[tuple[Need, ...]] = (
        Need("checkpoint", "checkpoint", not_made_by=("quantize",)),
        Need("corpus", "corpus"),
    )

    keep_width: _Neurons | _Share | None = Field(
        None,
        description="Neurons of each feed-forward block that stay: a share (0.7) or a number, rounded to a multiple of "
        "64; default all.",
    )
    keep_layers: _Layers | _Share | None = Field(
        None, description="Layers that stay: a number, or a share (0.8); default all."
    )
    keep_parameters: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of all parameters that stays at most, instead of keep_width, which is then as large as it "
        "allows.",
    )
    calibration: CalibrationSettings = Field(
        CalibrationSettings(), description="The text on which layers and neurons are compared."
    )

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.keep_width is None and self.keep_layers is None and self.keep_parameters is None:
            raise ValueError("say what stays: keep_width (0.7), keep_layers (24), keep_parameters (0.6)")
        if self.keep_width is not None and self.keep_parameters is not None:
            raise ValueError("keep_parameters finds the width itself; leave keep_width out")
        return self

    def _wish(self) -> Wish:
        from llmtune.compress.prune_target import Wish

        return Wish(self.keep_width, self.keep_layers, self.keep_parameters)

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """The exact shape of the result, from that of the model; memory and time from its size and the text's."""
        from llmtune.compress.prune_estimate import estimate
        from llmtune.compress.prune_target import target_of
        from llmtune.compress.structure import find_structure, pruned_shape

        shape, text = inputs["checkpoint"].shape, self.calibration
        problems, notes = problems_and_notes(text, inputs["corpus"], shape)
        size = inputs["checkpoint"].bytes
        unknown = Plan(Forecast("checkpoint", bytes=size), memory=0, disk=size)
        if shape is None:
            return replace(unknown, notes=tuple(notes), problems=tuple(problems))
        try:
            structure = find_structure(shape)
            target = target_of(shape, structure, self._wish())
        except LlmtuneError as error:
            return replace(unknown, problems=(*problems, str(error)))
        if not target.leaves_out(structure):
            problems, notes = [], ["nothing is left out, so no text is read"]
        # Which layers stay is not known yet; of all models known here they are of one shape.
        smaller = pruned_shape(shape, structure, range(target.layers), target.width)
        need = estimate(shape, structure, target, smaller, text.rows * text.tokens, text.tokens, machine)
        notes += [*target.notes, f"{smaller.parameters / shape.parameters:.1%} of the parameters stay"]
        return Plan(
            Forecast("checkpoint", bytes=smaller.bytes, shape=smaller),
            memory=need.memory,
            disk=smaller.bytes + need.work,
            seconds=need.seconds,
            notes=tuple(notes),
            problems=tuple(problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Prune into `context.output`; goes on after what was finished before a kill."""
        from llmtune.compress.prune import prune
        from llmtune.compress.quantize import Calibration

        text = self.calibration
        seed = context.seed if text.seed is None else text.seed
        trust = bool(inputs["checkpoint"].metrics.get("trust_remote_code"))
        metrics = prune(
            inputs["checkpoint"].folder,
            context.output,
            wish=self._wish(),
            calibration=Calibration(inputs["corpus"].folder, text.rows, text.tokens, seed),
            work=context.work,
            trust_remote_code=trust,
            monitor=context.monitor,
        )
        return metrics | {"trust_remote_code": trust}

"""Stage `moe`: a dense checkpoint → a mixture of experts in an architecture that transformers loads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.section import Chart, Section
from llmtune.stages.calibration import CalibrationSettings, problems_and_notes
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

if TYPE_CHECKING:
    from llmtune.models.moe.convert import Converted
    from llmtune.models.moe.target import Layout

_CHECKPOINT = Need("checkpoint", "checkpoint", not_made_by=("quantize",))
_CORPUS = Need("corpus", "corpus")


class MoeStage(Stage):
    """Convert a model into a mixture of experts: `split` makes fewer weights active for each token, `upcycle` makes
    room for more. Train or distil it afterwards; the routers' losses are added by themselves."""

    kind: ClassVar[str] = "moe"
    makes: ClassVar[str] = "checkpoint"
    keeps_tokenizer: ClassVar[bool] = True
    needs: ClassVar[tuple[Need, ...]] = (_CHECKPOINT, _CORPUS)
    version: ClassVar[int] = 2  # down projections make up for what is missing

    method: Literal["split", "upcycle"] = Field(
        "split",
        description="split: the neurons of each feed-forward part are divided into a shared expert and routed ones by "
        "their activity on the corpus. upcycle: each routed expert is a copy of the whole feed-forward part.",
    )
    experts: int | None = Field(
        None, ge=2, le=512, description="Routed experts in a layer; default 6 (split), 4 (upcycle)."
    )
    active: int = Field(2, ge=1, description="Routed experts that are active for a token.")
    shared: int | None = Field(
        None,
        ge=1,
        description="Of a split: width of the expert that is always active, in widths of a routed one; default 2. "
        "experts + shared must divide the feed-forward width; (active + shared) / (experts + shared) of it is active: "
        "half by default.",
    )
    grouping: Literal["activity", "random"] | None = Field(
        None,
        description="Of a split, how neurons come together: by activity (default), or by chance, to see what that "
        "is worth.",
    )
    calibration: CalibrationSettings | None = Field(
        None, description="Of a split: the text on which neurons are compared; default {rows: 32, tokens: 512}."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.active > self.routed:
            raise ValueError(f"active ({self.active}) is more than there are experts ({self.routed})")
        if self.method == "upcycle":
            for name in ("shared", "grouping", "calibration"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for method split; upcycle copies the whole feed-forward part")
        return self

    @property
    def routed(self) -> int:
        """Routed experts in a layer."""
        return self.experts or (6 if self.method == "split" else 4)

    def layout(self) -> Layout:
        """The experts with their defaults."""
        from llmtune.models.moe.target import Layout

        return Layout(self.method, self.routed, self.active, (self.shared or 2) if self.method == "split" else 0)

    def text(self) -> CalibrationSettings:
        """The calibration text of a split with its defaults."""
        return self.calibration or CalibrationSettings(rows=32)

    def inputs_needed(self) -> tuple[Need, ...]:
        """Only a split looks at a corpus."""
        return (_CHECKPOINT, _CORPUS) if self.method == "split" else (_CHECKPOINT,)

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """The exact shape of the result; memory and time from it and from the calibration text."""
        from llmtune.models.moe.estimate import estimate
        from llmtune.models.moe.target import active_parameters, conversion_problem, moe_shape

        before, text = inputs["checkpoint"], self.text()
        shape, problems, notes = before.shape, list[str](), list[str]()
        if self.method == "split":
            problems, notes = problems_and_notes(text, inputs["corpus"], shape)
        unconverted = Plan(Forecast("checkpoint", before.bytes, shape), memory=0, disk=before.bytes)
        if shape is None:
            return replace(unconverted, notes=tuple(notes), problems=tuple(problems))
        if problem := conversion_problem(shape, self.layout()):
            return replace(unconverted, notes=tuple(notes), problems=(*problems, problem))
        made = moe_shape(shape, self.layout())
        tokens = text.rows * text.tokens if self.method == "split" else 0
        need = estimate(shape, made, self.layout(), tokens, machine)
        return Plan(
            Forecast("checkpoint", bytes=made.bytes, shape=made),
            memory=need.memory,
            disk=need.disk,
            seconds=need.seconds,
            notes=(*notes, f"{active_parameters(made):,} of {made.parameters:,} weights are active for a token"),
            problems=tuple(problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Convert into `context.output`; a split goes on after its last finished layer."""
        from llmtune.compress.calibration import calibration_rows
        from llmtune.models.load import load_tokenizer
        from llmtune.models.moe.convert import convert

        checkpoint = inputs["checkpoint"]
        trust = bool(checkpoint.metrics.get("trust_remote_code"))
        rows: list[Any] = []
        if self.method == "split":
            text = self.text()
            tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=trust)
            seed = context.seed if text.seed is None else text.seed
            rows = calibration_rows(
                inputs["corpus"].folder, tokenizer, text.rows, text.tokens, seed, monitor=context.monitor
            )
        made = convert(
            checkpoint.folder,
            context.output,
            self.layout(),
            seed=context.seed,
            rows=rows,
            grouping=self.grouping or "activity",
            work=context.work / "layers",
            trust_remote_code=trust,
            monitor=context.monitor,
        )
        _section(made).write(context.output)
        return made.metrics | {"calibration_tokens": sum(row.numel() for row in rows), "trust_remote_code": trust}


def _section(made: Converted) -> Section:
    """What became of the model, and where its routers send the calibration text."""
    found = made.metrics
    share = found["active_parameters"] / found["parameters"]
    summary = (
        f"{found['architecture']}: {found['experts']} routed experts of {found['expert_width']} neurons in a layer, "
        f"{found['active_experts']} of them active for a token"
        + (f", beside a shared one of {found['shared_width']}" if found["shared_width"] else "")
        + f". {found['active_parameters']:,} of {found['parameters']:,} weights are active ({share:.0%})."
    )
    if not made.load:
        return Section(summary)
    load = Chart(
        "Load of the experts before training, on the calibration text",
        "heat",
        x=[f"expert {number}" for number in range(1, found["experts"] + 1)],
        series={f"layer {number}": shares for number, shares in enumerate(made.load, 1)},
        x_title="routed expert",
        y_title="layer; share of its choices",
    )
    error = Chart(
        "What is missing of each layer's output on the calibration text, before training",
        "lines",
        list(range(1, len(made.error) + 1)),
        {"error of the output": made.error},
        "layer",
        "share of its square",
    )
    return Section(summary, charts=[load, error])

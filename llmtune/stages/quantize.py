"""Stage `quantize`: the linear layers of a checkpoint in 8, 4 or 3 bits, saved so that transformers loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.extras import have, missing
from llmtune.machine import Machine
from llmtune.stages.calibration import CalibrationSettings, problems_and_notes
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

if TYPE_CHECKING:
    from llmtune.compress.grid import Grid

_CHECKPOINT = Need("checkpoint", "checkpoint", not_made_by=("quantize",))
_CORPUS = Need("corpus", "corpus")


class QuantizeStage(Stage):
    """Quantize the linear layers of a checkpoint. Embeddings, norms and the layers in `ignore` stay in bf16."""

    kind: ClassVar[str] = "quantize"
    makes: ClassVar[str] = "checkpoint"
    keeps_tokenizer: ClassVar[bool] = True
    version: ClassVar[int] = 3  # GPTQ's step on the CPU sums in another order
    needs: ClassVar[tuple[Need, ...]] = (_CHECKPOINT, _CORPUS)

    method: Literal["gptq", "round", "nf4", "int8"] = Field(
        "gptq",
        description="gptq: by group, fitted to text of the corpus; round: by group, to the nearest code; "
        "nf4, int8: bitsandbytes.",
    )
    bits: Literal[8, 4, 3] | None = Field(
        None, description="Bits of a weight, for gptq and round; default 4. vLLM loads 8 and 4."
    )
    group_size: int | None = Field(
        None,
        ge=8,
        description="Neighbouring inputs that share one scale, for gptq and round; must divide the inputs of every "
        "layer; default 32.",
    )
    symmetric: bool | None = Field(
        None, description="Codes around zero, for gptq and round; false: each group has a zero point too; default true."
    )
    scales: Literal["search", "largest"] | None = Field(
        None,
        description="Scale of a group, for gptq and round: the one of least squared error (gptq: weighted by the "
        "calibration inputs), or from its largest weight; default search.",
    )
    calibration: CalibrationSettings | None = Field(
        None, description="The text for gptq; default {rows: 64, tokens: 512}."
    )
    ignore: tuple[str, ...] = Field(
        ("lm_head",), description="Layers to leave in bf16: names, ends of names, globs, or `re:` and an expression."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method in ("nf4", "int8"):
            width = 4 if self.method == "nf4" else 8
            if self.bits not in (None, width):
                raise ValueError(
                    f"method {self.method} has {width} bits, not {self.bits}; gptq and round have 8, 4 and 3"
                )
            for field in ("group_size", "symmetric", "scales"):
                if getattr(self, field) is not None:
                    raise ValueError(f"{field} is for methods gptq and round; {self.method} has its own")
        if self.method != "gptq" and self.calibration is not None:
            raise ValueError(f"calibration is for method gptq; {self.method} looks at no text")
        return self

    def inputs_needed(self) -> tuple[Need, ...]:
        """Only GPTQ takes a corpus."""
        return (_CHECKPOINT, _CORPUS) if self.method == "gptq" else (_CHECKPOINT,)

    def text(self) -> CalibrationSettings:
        """The calibration text of gptq with its defaults."""
        return self.calibration or CalibrationSettings()

    def grid(self) -> Grid | None:
        """The grid of gptq and round with its defaults; None for bitsandbytes."""
        from llmtune.compress.grid import Grid

        if self.method in ("nf4", "int8"):
            return None
        return Grid(
            bits=self.bits or 4,
            group_size=self.group_size or 32,
            symmetric=True if self.symmetric is None else self.symmetric,
        )

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Exact bytes from the shape; memory and time from the size of the model and of the calibration text."""
        from llmtune.compress.grid import (
            check_group_size,
            conv1d_problem,
            experts_problem,
            forecast_bytes,
            linears,
            quantized_shape,
        )
        from llmtune.compress.quantize_estimate import bytes_in_work, estimate
        from llmtune.models.families import CONV1D_FAMILIES, encoder_problem

        problems = [
            str(missing(module, f"quantize by {self.method}")) for module in self._modules() if not have(module)
        ]
        notes: list[str] = []
        shape = inputs["checkpoint"].shape
        if self.method == "gptq" and "corpus" not in inputs:
            problems.append("gptq needs a corpus for its calibration text; use method round where there is none")
        elif self.method == "gptq":
            of_text, notes = problems_and_notes(self.text(), inputs["corpus"], shape)
            problems += of_text
        if shape is None:
            forecast = Forecast("checkpoint", bytes=inputs["checkpoint"].bytes)
            return Plan(forecast, memory=0, disk=forecast.bytes, notes=tuple(notes), problems=tuple(problems))
        grid = self.grid()
        rounded = linears(shape, self.ignore)
        if encoder := encoder_problem(shape.config, "`quantize`"):
            problems.append(encoder)
        if experts := experts_problem(shape, self.method, self.ignore):
            problems.append(experts)
        if not rounded:
            problems.append("no linear layer is left to round; shorten `ignore`")
        elif grid is not None:
            if shape.family in CONV1D_FAMILIES:
                problems.append(conv1d_problem(shape.family) + "; use nf4 or int8")
            try:
                check_group_size(rounded, grid.group_size)
            except LlmtuneError as error:
                problems.append(str(error))
            if grid.bits == 3:
                notes.append("3-bit checkpoints load in transformers; vLLM has no kernel of that width")
        calibrated = self.method == "gptq"
        rows = self.text().rows if calibrated else 0
        weight_bytes = forecast_bytes(shape, self.method, grid, self.ignore)
        need = estimate(shape, rounded, self.method, grid, rows, self.text().tokens, machine)
        quantized = quantized_shape(shape, weight_bytes, self.method, grid)
        forecast = Forecast("checkpoint", bytes=weight_bytes, shape=quantized)
        notes.append(f"{8 * weight_bytes / shape.parameters:.2f} bits a weight in all")
        # GPTQ keeps its finished layers, dequantized, until it is done.
        width = bytes_in_work(grid, calibrated, machine)
        work = sum(width * size[0] * size[1] for size in rounded.values()) if calibrated else 0
        return Plan(
            forecast,
            memory=need.memory,
            disk=weight_bytes + work,
            seconds=need.seconds,
            notes=tuple(notes),
            problems=tuple(problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Quantize into `context.output`; GPTQ goes on after its last finished layer."""
        from llmtune.compress.quantize import Calibration, quantize

        calibration = None
        if self.method == "gptq":
            text = self.text()
            seed = context.seed if text.seed is None else text.seed
            calibration = Calibration(inputs["corpus"].folder, text.rows, text.tokens, seed)
        trust = bool(inputs["checkpoint"].metrics.get("trust_remote_code"))
        metrics = quantize(
            inputs["checkpoint"].folder,
            context.output,
            method=self.method,
            grid=self.grid(),
            calibration=calibration,
            scale_search=self.scales != "largest",
            ignore=self.ignore,
            work=context.work / "layers",
            trust_remote_code=trust,
            monitor=context.monitor,
        )
        return metrics | {"trust_remote_code": trust}

    def _modules(self) -> tuple[str, ...]:
        return ("bitsandbytes",) if self.method in ("nf4", "int8") else ("llmcompressor", "compressed_tensors")

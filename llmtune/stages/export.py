"""Stage `export`: a checkpoint as files for a runtime, loaded again there and proven to agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmtune.artifacts import Artifact
from llmtune.errors import LlmtuneError
from llmtune.export.formats import GgufType, embedding_format
from llmtune.files import read_json
from llmtune.machine import Machine
from llmtune.models.families import encoder_problem
from llmtune.stages.stage import Context, Forecast, Need, Plan, Stage

_CORPUS = Need("corpus", "corpus", optional=True)
_GGUF_ONLY = ("type", "embeddings", "importance", "importance_tokens", "pre_tokenizer")
_NO_IMPORTANCE = ("f32", "f16", "bf16", "q8_0")  # formats whose rounding does not look at it


class ExportStage(Stage):
    """Export a checkpoint, load the result again in an independent runtime, and fail unless the two agree."""

    kind: ClassVar[str] = "export"
    makes: ClassVar[str] = "bundle"
    version: ClassVar[int] = 3  # an adapter names its base by the id on the hub, or not at all
    needs: ClassVar[tuple[Need, ...]] = (Need("checkpoint", "checkpoint"), _CORPUS)

    format: Literal["hf", "adapter", "gguf"] = Field(
        "hf",
        description="hf: the checkpoint as a folder for transformers; adapter: its LoRA adapter alone, for peft; gguf: "
        "one file for llama.cpp, from the last checkpoint that is not quantized unless `from` names one.",
    )
    type: GgufType | None = Field(
        None,
        description="Number format of a GGUF file; default q4_0. K-quants and iq4_xs need rows that are a multiple of "
        "256, the other quantized types of 32. From a quantized checkpoint: the type with the same grid (4 bits: q4_0, "
        "with zero points q4_1; 8 bits: q8_0), whose codes are then taken as they are.",
    )
    embeddings: GgufType | None = Field(
        None,
        description="Number format of the token embedding and output head of a GGUF file; default q8_0 beside a "
        "quantized type, else the type itself.",
    )
    importance: Literal["corpus", "none"] | None = Field(
        None,
        description="corpus: round a GGUF file with the importance of each input, measured on the corpus' training "
        "split; default none.",
    )
    importance_tokens: int | None = Field(
        None, ge=64, description="Tokens of the training split that importance is measured on; default 16,384."
    )
    pre_tokenizer: str | None = Field(
        None,
        min_length=1,
        description="llama.cpp's name for the way the tokenizer splits text, where it is not known by itself "
        "(`gpt-2`, `llama-bpe`, `qwen2`, …).",
    )
    name: str | None = Field(
        None, min_length=1, description="What the exported model is called; default: its base's name and `-tuned`."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.format != "gguf":
            given = [field for field in _GGUF_ONLY if getattr(self, field) is not None]
            if given:
                raise ValueError(f"{' and '.join(given)} belong to format gguf, not {self.format}")
            return self
        if self.importance == "corpus" and self.gguf_type in _NO_IMPORTANCE:
            raise ValueError(f"importance changes nothing for type {self.gguf_type}; leave it out")
        if self.importance_tokens is not None and self.importance != "corpus":
            raise ValueError("importance_tokens goes with importance: corpus")
        return self

    @property
    def gguf_type(self) -> str:
        """The type, with its default."""
        return self.type or "q4_0"

    @property
    def makes_whole_model(self) -> bool:
        return self.format != "adapter"

    def inputs_needed(self) -> tuple[Need, ...]:
        """An adapter needs the base it belongs on; a GGUF file starts from unrounded weights unless told otherwise."""
        if self.format == "adapter":
            trained = Need("checkpoint", "checkpoint", made_by=("train", "distill"))
            return (trained, Need("base", "checkpoint", made_by=("model",)), _CORPUS)
        if self.format == "gguf" and self.from_ is None:
            return (Need("checkpoint", "checkpoint", not_made_by=("quantize",)), _CORPUS)
        return (Need("checkpoint", "checkpoint"), _CORPUS)

    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Exact bytes from the shape; problems of the converter, the architecture and the rows before any training."""
        from llmtune.export.estimate import adapter_bytes, estimate_copy, estimate_gguf
        from llmtune.export.formats import fitting

        source = inputs["checkpoint"]
        shape = source.shape
        problems: list[str] = []
        notes: list[str] = []
        adapter = source.adapter if source.artifact is None else _adapter(source.artifact.lineage)
        if self.format == "adapter" and not adapter:
            problems.append(
                "format: adapter needs a checkpoint that was trained with an adapter; give the train stage `adapter:`, "
                "or use format: hf"
            )
        if shape is None:
            makes = Forecast(self.makes, bytes=source.bytes, format=self.format)
            return Plan(makes, memory=0, disk=source.bytes, problems=tuple(problems))
        if encoder := encoder_problem(shape.config, "`export`"):
            problems.append(f"{encoder}; its trained checkpoint is a folder that transformers loads as it is")
        if self.format == "hf":
            found = estimate_copy(shape, source.bytes, with_base=False)
        elif self.format == "adapter":
            found = estimate_copy(shape, adapter_bytes(shape, adapter or {}), with_base=True)
        else:
            refused = self._gguf_problems(inputs)
            problems += refused
            repack = bool(shape.config.get("quantization_config"))
            if repack and not refused:
                notes.append("takes the codes of the quantized checkpoint as they are")
            tokens = self._importance_tokens()
            embeddings = embedding_format(self.gguf_type, self.embeddings)
            try:
                found = estimate_gguf(shape, self.gguf_type, embeddings, repack=repack, importance_tokens=tokens)
            except LlmtuneError as error:
                problems.append(str(error))
                usable = next(kind for kind in ("q4_0", "f16") if kind in fitting(shape.hidden_size))
                found = estimate_gguf(shape, "f16", "f16", repack=repack, importance_tokens=0)
                notes.append(f"sizes are those of f16; the rows of width {shape.hidden_size} take {usable}")
        return Plan(
            Forecast(self.makes, bytes=found.bytes, shape=shape, format=self.format),
            memory=found.memory,
            disk=found.disk,
            seconds=found.seconds,
            notes=tuple(notes),
            problems=tuple(problems),
        )

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Export into `context.output`; the float32 GGUF and the importance are kept in `context.work` until done."""
        from llmtune.export.bundle import GgufSettings, export_adapter_alone, export_gguf, export_hf

        source = inputs["checkpoint"]
        corpus = inputs["corpus"].folder if "corpus" in inputs else None
        trust = bool(source.metrics.get("trust_remote_code"))
        origin = self._origin(inputs)
        if self.format == "hf":
            return export_hf(
                source.folder,
                context.output,
                origin,
                trust_remote_code=trust,
                corpus=corpus,
                monitor=context.monitor,
            )
        if self.format == "adapter":
            adapter = _adapter(source.lineage)
            return export_adapter_alone(
                source.folder,
                inputs["base"].folder,
                context.output,
                origin,
                base_in_4bit=adapter.get("type") == "qlora",
                trust_remote_code=trust,
                corpus=corpus,
                monitor=context.monitor,
            )
        return export_gguf(
            source.folder,
            context.output,
            GgufSettings(self.gguf_type, self.embeddings, self._importance_tokens(), self.pre_tokenizer),
            origin,
            work=context.work,
            trust_remote_code=trust,
            corpus=corpus,
            seed=context.seed,
            monitor=context.monitor,
        )

    def _importance_tokens(self) -> int:
        if self.importance != "corpus":
            return 0
        return 16_384 if self.importance_tokens is None else self.importance_tokens

    def _gguf_problems(self, inputs: Mapping[str, Forecast]) -> list[str]:
        from llmtune.export.convert import architecture_problem, converter_problem
        from llmtune.export.repack import repack_format, would_round_twice

        source = inputs["checkpoint"]
        problems: list[str] = []
        missing = converter_problem()
        if missing is not None:
            problems.append(str(missing))
        config = source.shape.config if source.shape is not None else {}
        # A base that is still a GGUF file, or on the hub, tells its architecture only when it has been fetched.
        told = config.get("architectures") or (config.get("text_config") or {}).get("architectures")
        if missing is None and told and (unknown := architecture_problem(config)):
            problems.append(unknown)
        quantized = config.get("quantization_config")
        if quantized:
            fits = repack_format(quantized)
            if fits != self.gguf_type:
                problems.append(str(would_round_twice(self.gguf_type, fits)))
            if self.importance == "corpus":
                problems.append("importance: codes are taken as they are, so nothing is rounded with it; leave it out")
        if self.importance == "corpus" and "corpus" not in inputs:
            problems.append("importance: corpus needs a corpus; add a corpus stage, or leave importance out")
        return problems

    def _origin(self, inputs: Mapping[str, Artifact]) -> Any:
        from llmtune.export.card import origin_of
        from llmtune.models.find import licence
        from llmtune.models.shape import read_shape

        source = inputs["checkpoint"]
        corpus = inputs.get("corpus")
        card = corpus.folder / "card.json" if corpus is not None else None
        return origin_of(
            source.lineage,
            name=self.name,
            folder_licence=licence(source.folder),
            corpus=read_json(card) if card is not None and card.is_file() else None,
            corpus_fingerprint=corpus.fingerprint if corpus is not None else None,
            context=read_shape(source.folder).context_length or 2048,
        )


def _adapter(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter settings of the stage that made a checkpoint; {} where it trained all weights."""
    return dict((lineage.get("settings") or {}).get("adapter") or {})

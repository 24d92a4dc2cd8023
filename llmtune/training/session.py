"""One training from checkpoint and corpus to checkpoint: prepare, run the loop, and save what came of it.

    from llmtune.training.session import train
    metrics = train(model_folder, corpus_folder, TrainSettings(tokens=250_000), output=…, work=…, seed=7)

Every rank of a launch calls `train`; rank 0 writes the output, and does so after the others have left.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmtune.corpus.store import count
from llmtune.errors import CannotRunHere, OutOfMemory
from llmtune.files import write_text
from llmtune.heap import return_freed_memory
from llmtune.models.load import load_tokenizer
from llmtune.models.shape import read_config, read_shape
from llmtune.monitor import Monitor
from llmtune.seeds import seed_of
from llmtune.training.checkpoint import WEIGHTS, CheckpointStore, Progress, load_weights, read_moments, read_tensors
from llmtune.training.clock import Clock
from llmtune.training.collate import collator_for
from llmtune.training.data import Row, Rows, rows_for
from llmtune.training.devices import Devices, start
from llmtune.training.distillation import Teacher, learn_from
from llmtune.training.engine import make_engine
from llmtune.training.estimate import row_problem
from llmtune.training.experts import use_trained_experts
from llmtune.training.isolation import PACKED, Isolation
from llmtune.training.loop import Loop, spread
from llmtune.training.loss import causal_model, decoder_of
from llmtune.training.masking import masking_problem
from llmtune.training.objective import Objective, objective_for
from llmtune.training.precision import precision_on
from llmtune.training.preparation import isolation_for, prepared_model, save_trained
from llmtune.training.range_test import RangeTest, range_test
from llmtune.training.results import kept_weights, metrics_of, section_of
from llmtune.training.router_losses import with_router_losses
from llmtune.training.router_plan import router_problem
from llmtune.training.settings import TrainSettings, count_steps

HISTORY, PRECISION, RANGE_TEST = "history.jsonl", "precision.txt", "range-test.json"


def train(
    checkpoint: Path,
    corpus: Path,
    settings: TrainSettings,
    *,
    output: Path,
    work: Path,
    seed: int,
    monitor: Monitor | None = None,
    halvings: int = 0,
    objective: Objective | None = None,
    teacher: Teacher | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Train the model in `checkpoint` on the `train` split of `corpus`; leave a checkpoint folder in `output`.

    work:      survives a kill; a second call with the same arguments goes on from there, to the same bits
    halvings:  how often to halve the micro-batch (with as many more of them: the gradient is the same)
    objective: what to minimise; default: the next token, of an encoder the masked ones
    teacher:   a model to learn from; the objective is then the distillation of it
    trust_remote_code: run Python code that comes with the model
    Returns metrics on rank 0, {} on others. Raises Stopped, NotFinite, OutOfMemory, CannotRunHere, BadArtifact.
    """
    session = _Session(
        checkpoint=checkpoint,
        corpus=corpus,
        settings=settings,
        work=work,
        seed=settings.own_seed(seed),
        micro_batch=_micro_batch(settings, halvings),
        monitor=monitor or Monitor(),
        clock=Clock(),
        objective=objective or objective_for(read_config(checkpoint)),
        teacher=teacher,
        trust_remote_code=trust_remote_code,
    )
    devices = session.start()
    if not devices.first:
        session.monitor = Monitor()  # rank 0 alone talks, and decides for all when to stop
    settings = session.settle_precision(devices)
    loop = session.loop(devices)
    session.settle_rate(loop)
    loop.run()
    metrics, weights, section = metrics_of(loop), kept_weights(loop), section_of(loop, session.range_test)
    history, conversations = loop.progress.history, loop.rows.has_conversations
    devices.end()
    del loop
    gc.collect()
    return_freed_memory()
    if not devices.first:
        return {}
    kept = read_tensors(weights, work)
    save_trained(
        checkpoint,
        settings,
        session.adapter_seed,
        kept,
        output,
        conversations=conversations,
        trust_remote_code=trust_remote_code,
    )
    write_text(output / HISTORY, "".join(json.dumps(record) + "\n" for record in history))
    if section.tables or section.charts:
        section.write(output)
    return metrics


@dataclass
class _Session:
    """The arguments of `train`, resolved, and the parts made from them."""

    checkpoint: Path
    corpus: Path
    settings: TrainSettings
    work: Path
    seed: int
    micro_batch: int
    monitor: Monitor
    clock: Clock
    objective: Objective
    teacher: Teacher | None
    trust_remote_code: bool
    range_test: RangeTest | None = None

    @property
    def adapter_seed(self) -> int:
        return seed_of(self.seed, "adapter")

    def start(self) -> Devices:
        """Join the ranks of this launch, or start alone."""
        return start(
            self.settings.device,
            batch_rows=self.settings.batch_rows,
            micro_batch=self.micro_batch,
            clip=self.settings.optimizer.clip,
        )

    def settle_precision(self, devices: Devices) -> TrainSettings:
        """Put a number format in the place of `auto`; after a resume the same, also on another kind of machine."""
        kept = self.work / PRECISION
        if devices.first and self.settings.precision == "auto" and not kept.exists():
            write_text(kept, precision_on(devices, "auto"))
        devices.wait()
        wanted = kept.read_text() if self.settings.precision == "auto" else self.settings.precision
        self.settings = self.settings.model_copy(update={"precision": precision_on(devices, wanted)})
        return self.settings

    def settle_rate(self, loop: Loop) -> None:
        """Put a learning rate in the place of `auto`, by a test before the first step; after a resume the same."""
        if self.settings.lr != "auto":
            return
        self.range_test = range_test(loop, self.work / RANGE_TEST)
        self.settings = loop.settings = self.settings.model_copy(update={"lr": self.range_test.lr})
        self.monitor.note(f"lr: auto is {self.range_test.lr:.2g} by a range test: {self.range_test.reason}")

    def loop(self, devices: Devices) -> Loop:
        """Model, rows, engine and saved progress, ready to run."""
        settings = self.settings
        trust = self.trust_remote_code
        shape = read_shape(self.checkpoint)
        if problem := (
            row_problem(settings.row_tokens, shape)
            or masking_problem(settings.masking, shape.config)
            or router_problem(settings, shape.config)
        ):
            raise CannotRunHere(problem)
        model = prepared_model(
            self.checkpoint, settings, self.adapter_seed, device=devices.device, trust_remote_code=trust
        )
        use_trained_experts(causal_model(model))
        isolate = isolation_for(model, shape.config, settings.precision)
        tokenizer: Any = load_tokenizer(self.checkpoint, trust_remote_code=trust)
        objective = self.objective
        if self.teacher is not None:
            objective, isolate = learn_from(
                self.teacher, self.checkpoint, model, tokenizer, isolate, settings, devices.device
            )
        objective = with_router_losses(objective, model, settings, shape.config)
        rows, valid = self._rows(devices, tokenizer, isolate)
        steps = count_steps(settings, len(rows), rows.tokens)
        store = CheckpointStore(self.work / "checkpoints", first=devices.first)
        devices.wait()  # rank 0 may tidy the store up only when all have looked
        latest = store.latest()
        progress = Progress() if latest is None else store.progress(latest)
        if latest is not None:
            load_weights(model, read_tensors(latest / WEIGHTS, latest))
            self.monitor.note(f"training goes on after step {progress.step} of {steps.total}")
        collator = collator_for(settings, isolate, tokenizer, shape.config, self.seed)
        self._tell(rows, isolate, trainable_parameters(model), steps.total)
        if collator.masker is not None:
            self.monitor.note(collator.masker.described(tokenizer))
        if valid is None:
            self.monitor.note("the corpus has no valid split: nothing is validated, the last weights are kept")
        if settings.compile:
            decoder_of(causal_model(model)).compile(dynamic=False)
        engine = make_engine(model, objective, settings, devices)
        if latest is not None and progress.step < steps.total:
            engine.restore(read_moments(latest), progress.engine)
        devices.wait()
        loop = Loop(
            engine=engine,
            settings=settings,
            steps=steps,
            rows=rows,
            valid=valid,
            collator=collator,
            store=store,
            seed=settings.order_seed(self.seed),
            micro_batch=self.micro_batch,
            monitor=self.monitor,
            progress=progress,
            clock=self.clock,
        )
        if latest is None and (settings.guard is not None or settings.lr == "auto"):
            loop.begin()
        return loop

    def _rows(self, devices: Devices, tokenizer: Any, isolate: Isolation) -> tuple[Rows, list[Row] | None]:
        """Rows to train on, and those to validate on (None without a valid split); rank 0 builds, the others open."""

        def build(split: str) -> Rows:
            cache = self.work / "rows"
            return rows_for(self.settings, isolate, self.corpus, split, tokenizer, cache=cache, monitor=self.monitor)

        if not devices.first:
            devices.wait()
        rows = build("train")
        valid = spread(build("valid"), self.settings.validation.rows) if self._can_validate() else None
        if devices.first:
            devices.wait()
        return rows, valid

    def _can_validate(self) -> bool:
        return any(True for _ in (self.corpus / "valid").glob("*.parquet")) and count(self.corpus, "valid") > 0

    def _tell(self, rows: Rows, isolate: Isolation, trainable: int, steps: int) -> None:
        self.monitor.note(
            f"training {trainable:,} weights for {steps} steps on {len(rows)} rows of up to {rows.row_tokens} tokens "
            f"({rows.tokens:,} tokens, {rows.trained_tokens:,} of them targets)"
        )
        if rows.counts.shortened:
            self.monitor.note(
                f"{rows.counts.shortened:,} conversations are longer than row_tokens ({rows.row_tokens}) and lose "
                "their end, with the token that ends the last answer: raise row_tokens to train on them whole"
            )
        if rows.counts.dropped_documents:
            self.monitor.note(f"{rows.counts.dropped_documents:,} documents have no token to train on and are left out")
        if isolate not in PACKED:
            self.monitor.note("this family cannot be kept inside a document: one document a row, shorter ones padded")


def trainable_parameters(model: torch.nn.Module) -> int:
    """Number of weights that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _micro_batch(settings: TrainSettings, halvings: int) -> int:
    """Rows at once after running out of memory `halvings` times."""
    rows = min(settings.micro_batch, settings.batch_rows) >> halvings
    if rows == 0:
        raise OutOfMemory(
            "not enough memory even for one row at a time",
            fix="lower row_tokens, set gradient_checkpointing: true, or train an adapter instead of all weights",
        )
    return rows

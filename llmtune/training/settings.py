"""The settings of a training run, as a recipe's `train:` block holds them. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llmtune.models.adapters import AdapterSettings
from llmtune.seeds import seed_of
from llmtune.settings import Settings

CHECKPOINT_SECONDS = 1800.0  # of work that a crash may cost, where the recipe does not say how often to save
LEARNING_RATE = {"full": 3e-4, "adapter": 1e-3}
# Bytes of one chunk's logits in fp32 (loss.py): enough rows for a full-speed matrix product, little beside the model.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}


class ScheduleSettings(Settings):
    """The learning rate over the steps of a run."""

    type: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="After warm-up: cosine or linear fall to the floor over all steps; constant; or wsd: constant, "
        "then a linear fall over the last part (warm-up, stable, decay).",
    )
    warmup: float = Field(0.05, ge=0, le=1, description="Part of the steps in which the rate rises linearly from 0.")
    decay: float | None = Field(
        None, gt=0, le=1, description="Part of the steps in which a wsd schedule falls; default 0.2. Only for wsd."
    )
    floor: float | None = Field(
        None, ge=0, le=1, description="Rate at the end as a part of the highest; default 0.1. Not for constant."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.decay is not None and self.type != "wsd":
            raise ValueError(f"decay is for schedule type wsd; {self.type} falls over all its steps or not at all")
        if self.floor is not None and self.type == "constant":
            raise ValueError("floor has no meaning for a constant schedule")
        if self.type == "wsd" and self.warmup + (self.decay or 0.2) > 1:
            raise ValueError("warmup and decay are parts of the same steps and may not exceed 1 together")
        return self


class OptimizerSettings(Settings):
    """AdamW (Loshchilov & Hutter 2019)."""

    weight_decay: float = Field(
        0.01, ge=0, description="Decoupled weight decay of matrices; norms, biases and embeddings have none."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the running mean of gradients.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the running mean of squared gradients.")
    epsilon: float = Field(1e-8, gt=0, description="Added to the denominator.")
    clip: float = Field(
        1.0, ge=0, description="Largest global norm of the gradient; longer ones are scaled down to it. 0: no clipping."
    )


class ValidationSettings(Settings):
    """The loss on the corpus' valid split while training."""

    every: int | None = Field(
        None,
        ge=1,
        description="Steps between two validations; default a quarter of all steps. The last step is always one.",
    )
    rows: int = Field(32, ge=1, description="Rows of the valid split to use, spread evenly over it.")
    keep: Literal["best", "last"] = Field(
        "best", description="Which weights to keep in the end: those of the lowest validation loss, or the last."
    )


class GuardSettings(Settings):
    """What is done about steps that go wrong: see `guard.py`."""

    spike: float = Field(
        1.5,
        gt=1,
        description="A loss of more than so many times the lowest running median so far is a spike (a median under one "
        "nat counts as one).",
    )
    patience: int = Field(
        5, ge=1, description="Steps in a row, each a spike or not finite, after which training goes back."
    )
    roll_backs: int = Field(
        3, ge=0, description="How often training goes back before it ends with an error; from the second time on at "
        "half the learning rate of the time before.",
    )  # fmt: skip
    anchor_steps: int | None = Field(
        None, ge=1, description="Steps between two states that training can go back to; default a quarter of all steps."
    )


class MaskingSettings(Settings):
    """Part of the tokens is hidden from the model, another part in each epoch. Its defaults are right for most."""

    type: Literal["causal", "mlm"] = Field(
        description="causal: inputs are masked, and every next token is learned as without (MEAP); for models that "
        "write text. mlm: the masked tokens are learned (BERT); for encoders.",
    )
    ratio: float = Field(0.15, ge=0, lt=1, description="Part of the tokens to mask. 0: nothing is masked; not for mlm.")
    whole_words: bool | None = Field(
        None, description="Mask all tokens of a word or none of them; default true. Only for mlm."
    )
    token: str | None = Field(
        None,
        min_length=1,
        description="The token that stands for a masked one; default: the tokenizer's mask token, else a special token "
        "of its vocabulary that no text can contain.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.whole_words is not None and self.type != "mlm":
            raise ValueError("whole_words is for masking type mlm; causal masks token by token")
        if self.ratio == 0 and self.type == "mlm":
            raise ValueError("with type mlm only the masked tokens are learned, so ratio must be more than 0")
        return self


class RouterSettings(Settings):
    """Losses that keep the routers of a mixture of experts in order: see `router_losses.py`."""

    balance: float = Field(
        0.01, ge=0, description="Coefficient of the load-balance loss, which is 1 where the experts' shares are even."
    )
    z: float = Field(0.001, ge=0, description="Coefficient of the z-loss, the mean square of the logits' log-sum-exp.")


class TrainSettings(Settings):
    """What is trained, on how much, and how."""

    adapter: AdapterSettings | None = Field(
        None, description="LoRA or QLoRA settings; without them all weights of the model are trained."
    )
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp8"] = Field(
        "auto",
        description="Number format of the matrix products. Trained weights and their sums are fp32 in any case. auto: "
        "bf16 where the device computes in it, else fp32. fp16 needs a GPU; fp8 is refused, with the reason.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where to train; auto: a GPU where there is one. Asking for cuda on a machine without is an error.",
    )
    masking: MaskingSettings | None = Field(
        None, description="Hide part of the tokens while training; default: nothing, but type mlm for an encoder."
    )
    tokens: int | None = Field(None, ge=1, description="Training budget in tokens; not with epochs.")
    epochs: float | None = Field(
        None, gt=0, description="Training budget in readings of the train split; default 1. Not with tokens."
    )
    row_tokens: int = Field(512, ge=8, description="Tokens of a row: the longest context seen in training.")
    batch_tokens: int = Field(
        4096, ge=8, description="Tokens of one optimizer step, over all ranks; rounded down to whole rows."
    )
    micro_batch: int = Field(
        4, ge=1, description="Rows that one device works on at once; changes memory and speed alone."
    )
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        None,
        description="Highest learning rate; default 3e-4 for all weights, 1e-3 for an adapter. auto: found by a short "
        "test of rising rates before the training.",
    )
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="The learning rate over the steps.")
    optimizer: OptimizerSettings = Field(OptimizerSettings(), description="AdamW.")
    validation: ValidationSettings = Field(
        ValidationSettings(), description="The loss on held-out rows while training."
    )
    router: RouterSettings | None = Field(
        None,
        description="Losses of the routers, for a mixture of experts trained with all its weights; default {balance: "
        "0.01, z: 0.001} there, and nothing for a dense model.",
    )
    guard: GuardSettings | None = Field(
        GuardSettings(),
        description="A step whose loss or gradient is not finite is left out, and training that went astray goes back "
        "to its last good state; null: it ends with an error at once.",
    )
    checkpoint_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between two checkpoints to resume from; default a quarter of all steps, and after half an "
        "hour without one.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        description="Draws the order of the rows, the adapter's start and dropout; default: the recipe's seed.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice rather than keep them: less memory, about a third more time."
    )
    compile: bool = Field(
        False, description="torch.compile of the decoder: faster steps after a slow start; needs a C++ compiler on CPU."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tokens is not None and self.epochs is not None:
            raise ValueError("tokens and epochs both set the length of training; give one of them")
        if self.batch_tokens < self.row_tokens:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) is less than one row (row_tokens: {self.row_tokens}); "
                "a step needs at least one row"
            )
        if self.adapter is not None and self.adapter.type == "qlora" and self.compile:
            raise ValueError("compile does not work on 4-bit weights (adapter type qlora); leave one of them out")
        return self

    @property
    def learning_rate(self) -> float:
        """The highest learning rate; the default one until `auto` is settled."""
        return self.lr if isinstance(self.lr, float) else LEARNING_RATE["adapter" if self.adapter else "full"]

    @property
    def batch_rows(self) -> int:
        """Rows of one optimizer step, over all ranks."""
        return self.batch_tokens // self.row_tokens

    def own_seed(self, recipe_seed: int) -> int:
        """The seed of all that training draws: its own, else the recipe's."""
        return recipe_seed if self.seed is None else self.seed

    def order_seed(self, recipe_seed: int) -> int:
        """The seed of the order of the rows."""
        return seed_of(self.own_seed(recipe_seed), "order")


@dataclass(frozen=True)
class Steps:
    """The steps of a run, counted before it starts; nothing reads the clock.

    total:      optimizer steps
    validate:   steps between two validations
    checkpoint: steps between two checkpoints
    anchor:     steps between two states that training can go back to; 0: it never does
    """

    total: int
    validate: int
    checkpoint: int
    anchor: int

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows the step'th step (from 1)."""
        return step == self.total or step % self.validate == 0

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint follows the step'th step (from 1)."""
        return step == self.total or step % self.checkpoint == 0 or self.is_anchor(step)

    def is_anchor(self, step: int) -> bool:
        """Whether the state after the step'th step (from 1) is one that training can go back to."""
        return self.anchor > 0 and step % self.anchor == 0


def count_steps(settings: TrainSettings, rows: int, tokens: int) -> Steps:
    """How many steps a train split of `rows` rows holding `tokens` tokens makes."""
    if settings.tokens is not None:
        per_step = settings.batch_rows * tokens / rows
        total = math.ceil(settings.tokens / per_step)
    else:
        total = math.ceil((settings.epochs or 1.0) * rows / settings.batch_rows)
    total = max(1, total)
    quarter = max(1, math.ceil(total / 4))
    return Steps(
        total,
        validate=settings.validation.every or quarter,
        checkpoint=settings.checkpoint_steps or quarter,
        anchor=(settings.guard.anchor_steps or quarter) if settings.guard else 0,
    )

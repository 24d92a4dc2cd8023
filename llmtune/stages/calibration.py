"""The text of a corpus that weights are fitted to or compared on: its settings, and what a plan says of them. Of
`quantize`, `prune` and `moe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from llmtune.settings import Settings
from llmtune.stages.stage import Forecast

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape


class CalibrationSettings(Settings):
    """The text that weights are fitted to, from the corpus' train split."""

    rows: int = Field(64, ge=1, description="Rows of text.")
    tokens: int = Field(512, ge=16, description="Tokens in a row.")
    seed: int | None = Field(None, description="Draws the documents; default: the recipe's seed.")


def problems_and_notes(
    text: CalibrationSettings, corpus: Forecast, shape: ModelShape | None
) -> tuple[list[str], list[str]]:
    """Why this text cannot be had of the corpus or read by a model of this shape (None: unknown), and what is worth
    knowing of it."""
    from llmtune.training.estimate import row_problem

    problems, notes = list[str](), list[str]()
    available, asked = corpus.tokens.get("train"), text.rows * text.tokens
    if available is not None and available < text.tokens:
        problems.append(f"the train split holds about {available} tokens, less than one row of calibration text")
    elif available is not None and available < asked:
        notes.append(f"the train split holds about {available} tokens, the calibration asks for {asked}")
    if shape is not None and (too_long := row_problem(text.tokens, shape, "calibration.tokens")):
        problems.append(too_long)
    return problems, notes

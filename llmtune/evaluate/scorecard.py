"""The scorecard: quality, size and speed of every model of a run, against the first and the one before it. Imports no
torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from llmtune.evaluate.comparable import PER_TOKEN, first_like, in_tokens_of, other_tokens, same_text
from llmtune.evaluate.intervals import paired_ratio, sign_test
from llmtune.evaluate.settings import CHOICES
from llmtune.words import human_bytes

_ABOVE_CHANCE = "_above_chance"


@dataclass(frozen=True)
class Column:
    """One figure: field of the scores, heading, format (`bytes`, `M` or a format string), and which way is better
    (-1 lower, +1 higher)."""

    field: str
    heading: str
    form: str
    better: int

    def show(self, value: float | None) -> str:
        """The figure as a person reads it."""
        if value is None:
            return "–"
        if self.form == "bytes":
            return human_bytes(value)
        if self.form == "M":
            return f"{value / 1e6:.1f} M"
        return self.form.format(value)


COLUMNS = (
    Column("domain_perplexity", "domain perplexity", "{:.2f}", -1),
    Column("domain_bits_per_byte", "bits per byte", "{:.3f}", -1),
    Column("domain_accuracy", "domain accuracy", "{:.1%}", 1),
    Column("knowledge_accuracy", "knowledge", "{:.1%}", 1),
    Column("knowledge_above_chance", "knowledge above chance", "{:.1%}", 1),
    Column("general_perplexity", "general perplexity", "{:.2f}", -1),
    Column("own_accuracy", "own questions", "{:.1%}", 1),
    Column("parameters", "parameters", "M", -1),
    Column("bytes", "size", "bytes", -1),
    Column("decode_tokens_per_second", "decode tok/s", "{:.0f}", 1),
    Column("prefill_tokens_per_second", "prefill tok/s", "{:.0f}", 1),
    Column("peak_memory_bytes", "peak memory", "bytes", -1),
)


@dataclass(frozen=True)
class Cell:
    """A figure, its ratio to the first model's ('' where there is none), `good`, `bad` or '' by that ratio, and its
    ratio to the model before ('' for the second model too, where both are the same)."""

    text: str
    ratio: str
    tone: str
    previous: str = ""


class Scorecard:
    """Rows in the order of the run: stage id and its scores; the first is what the others are compared with."""

    def __init__(self, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self.scores = scores
        self.columns = [c for c in COLUMNS if any(row.get(c.field) is not None for row in scores.values())]

    def rows(self) -> list[tuple[str, list[Cell]]]:
        """The cells of each model."""
        models = list(self.scores.values())
        before = [{}, {}, *models[1:]]
        return [
            (name, [_cell(column, row, models[0], previous, self._unit(column.field, row)) for column in self.columns])
            for (name, row), previous in zip(self.scores.items(), before, strict=False)
        ]

    @property
    def note(self) -> str:
        """What a reader must know of the figures; "" where there is nothing."""
        pairs = [(metric, row) for row in self.scores.values() for metric in PER_TOKEN]
        names = {
            first_like(metric, row, self.scores)
            for metric, row in pairs
            if other_tokens(metric, row, self._unit(metric, row))
        }
        if not names:
            return ""
        others = " and ".join(sorted(map(str, names)))
        return f"Perplexities of models with other tokens are in tokens of {others}, over the same text."

    def _unit(self, metric: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The scores of the model in whose tokens a figure is shown."""
        name = first_like(metric, row, self.scores)
        return self.scores[name] if name is not None else row

    def table(self) -> Table:
        """For the terminal: a line a figure, a column a model, so that it fits a narrow one."""
        title = "Scorecard" + (" (× the first model, in brackets × the one before)" if len(self.scores) > 2 else "")
        table = Table(title=title, title_justify="left", caption=self.note or None, caption_justify="left")
        table.add_column("")
        rows = self.rows()
        for name, _ in rows:
            table.add_column(name, justify="right")
        tones = {"good": "green", "bad": "red", "": "dim"}
        for index, column in enumerate(self.columns):
            cells = [cells[index] for _, cells in rows]
            table.add_row(column.heading, *(_shown(cell, tones[cell.tone]) for cell in cells))
        return table


def _shown(cell: Cell, colour: str) -> str:
    """A cell of the terminal's table: the figure, its ratio to the first model's and to that of the model before."""
    before = f" [dim]({cell.previous})[/]" if cell.previous else ""
    return cell.text + (f" [{colour}]{cell.ratio}[/]" if cell.ratio else "") + before


def _cell(
    column: Column,
    row: Mapping[str, Any],
    first: Mapping[str, Any],
    previous: Mapping[str, Any],
    unit: Mapping[str, Any],
) -> Cell:
    text = column.show(in_tokens_of(column.field, row, unit)) + _interval(column, row)
    ratio = _ratio(column, row, first, unit) if row is not first else None
    before = _ratio(column, row, previous, unit)
    shown = f"{before:.2f} ×" if before is not None else ""
    if ratio is None:
        return Cell(text, "", "", shown)
    better = (ratio - 1) * column.better > 0
    tone = ("good" if better else "bad") if _is_clear(column, ratio, row, first) else ""
    return Cell(text, f"{ratio:.2f} ×" + _interval_of_ratio(column, row, first), tone, shown)


def _ratio(column: Column, row: Mapping[str, Any], other: Mapping[str, Any], unit: Mapping[str, Any]) -> float | None:
    """A figure over another model's, as both are shown; None where one is missing, or the texts were others."""
    value, reference = (in_tokens_of(column.field, one, unit) for one in (row, other))
    if value is None or reference is None or reference <= 0 or not same_text(column.field, row, other):
        return None
    return float(value) / float(reference)


def _interval(column: Column, row: Mapping[str, Any]) -> str:
    """The 95 % interval behind an accuracy."""
    low, high = row.get(f"{column.field}_low"), row.get(f"{column.field}_high")
    return "" if low is None or high is None else f" ({low:.0%}–{high:.0%})"


def _is_clear(column: Column, ratio: float, row: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether the difference is more than chance (of accuracies: on the same questions), or else more than 0.5 %."""
    answers = _answers(column, row, first)
    return sign_test(*answers) < 0.05 if answers else abs(ratio - 1) >= 0.005


def _interval_of_ratio(column: Column, row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """The 95 % interval of the ratio of two accuracies above chance, over the same questions."""
    answers = _answers(column, row, first)
    if not answers or not column.field.endswith(_ABOVE_CHANCE):
        return ""
    chance = 1 / CHOICES
    before, after = ([right - chance for right in one] for one in answers)
    found = paired_ratio(before, after)
    return f" ({found[0]:.2f}–{found[1]:.2f})" if found else ""


def _answers(column: Column, row: Mapping[str, Any], first: Mapping[str, Any]) -> tuple[list[bool], list[bool]] | None:
    """Which questions behind a figure the first model and this one got right; None of another figure."""
    field = re.sub(f"(_accuracy|{_ABOVE_CHANCE})$", "_right", column.field)
    if field == column.field or field not in row or field not in first:
        return None
    return [one == "1" for one in first[field]], [one == "1" for one in row[field]]

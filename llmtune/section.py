"""What a stage has to show in the report: tables, charts and texts, written beside its artifact as plain JSON.

    Section(summary="…", tables=[Table("dropped", ("reason", "texts"), rows)]).write(context.output)

The report draws whatever it finds, so that a stage, also one of another package, brings its own part of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmtune.files import read_json, write_json

SECTION = "section.json"

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; figures are written as a person writes them."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Chart:
    """One chart.

    lines:   series name → values, over `x` (numbers)
    points:  the same, as points (a scatter)
    bars:    one series, over `x` (names), largest on top
    heat:    series name (a row, from the top) → values over `x` (columns)
    x_title, y_title: what the axes are, with units
    """

    caption: str
    kind: Literal["lines", "points", "bars", "heat"]
    x: Sequence[str | int | float]
    series: Mapping[str, Sequence[float | None]]
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True)
class Texts:
    """Text samples side by side: each row has one text a column. Left out of the report with `report.samples: false`,
    so text of the corpus belongs here and not into a table."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A stage's part of the report. summary: a sentence or two that say what came of it."""

    summary: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)
    charts: Sequence[Chart] = field(default_factory=tuple)
    texts: Sequence[Texts] = field(default_factory=tuple)

    def write(self, folder: Path) -> None:
        """Leave it in a stage's output folder."""
        write_json(folder / SECTION, asdict(self))


def read_section(folder: Path) -> Section | None:
    """The section in an artifact's folder; None where there is none."""
    path = folder / SECTION
    if not path.is_file():
        return None
    value: dict[str, Any] = read_json(path)
    return Section(
        value["summary"],
        [Table(**one) for one in value["tables"]],
        [Chart(**one) for one in value["charts"]],
        [Texts(**one) for one in value["texts"]],
    )

"""One file of labels as rows, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One label of one annotator. where: its line or task. label: None if not labelled yet. annotator: None if the
    file does not say. Labels and annotators are `visible`; ids and texts are as exported."""

    where: str
    id: str
    text: str | None
    label: str | None
    annotator: str | None
    group: str | None = None

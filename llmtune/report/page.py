"""Writes `report.html`: the story of the run, top to bottom, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmtune.evaluate.scorecard import Scorecard
from llmtune.files import write_text
from llmtune.report.charts import bar_chart, chart_of, loss_chart, rate_chart
from llmtune.report.collect import FinishedStage, RunStory
from llmtune.run.folder import RunFolder
from llmtune.section import Section
from llmtune.words import human_bytes, human_seconds

# Told by the scorecard and by the answers side by side, unless they bring a section.
_WITHOUT = frozenset({"model", "evaluate", "answers"})
_TILES = ("domain_perplexity", "domain_accuracy", "general_perplexity", "bytes")


def write_report(folder: Path, story: RunStory) -> Path:
    """Write the report of the run in `folder`, whose story it tells; returns its path."""
    path = RunFolder(folder).report
    write_text(path, render(story))
    return path


def render(story: RunStory) -> str:
    """The page as a string."""
    from jinja2 import Environment, PackageLoader
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=PackageLoader("llmtune.report"), autoescape=True, trim_blocks=True)
    environment.filters |= {"bytes": human_bytes, "seconds": human_seconds, "figure": _figure}
    charts: dict[str, dict[str, Any]] = {}
    page = environment.get_template("report.html").render(
        story=story,
        tiles=_tiles(story),
        scorecard=Scorecard(story.scores) if story.scores else None,
        study=_drawn("search", story.study, charts),
        parts=[
            _part(stage, charts, story.show_samples)
            for stage in story.stages
            if stage.record.kind not in _WITHOUT or stage.section is not None
        ],
        answers=_answers(story) if story.show_samples else [],
        charts=charts,
        plotly=get_plotlyjs() if charts else "",
    )
    return page


def _tiles(story: RunStory) -> list[tuple[str, str, str]]:
    """(figure, what it is, detail) of the few numbers that say how it went: the last model against the base."""
    if len(story.scores) < 2:
        return []
    card = Scorecard(story.scores)
    _, cells = card.rows()[-1]
    words = {"good": "better", "bad": "worse", "": "as before"}
    first = next(iter(story.scores.values()))
    return [
        (cell.ratio, column.heading, f"{column.show(first[column.field])} → {cell.text}, {words[cell.tone]}")
        for column, cell in zip(card.columns, cells, strict=True)
        if cell.ratio and column.field in _TILES
    ]


def _part(stage: FinishedStage, charts: dict[str, dict[str, Any]], show_samples: bool) -> dict[str, Any]:
    """What a stage has to tell, by what lies in its artifact: a corpus' card, a training's history, an export's proof,
    and the section that it wrote itself."""
    key, metrics = stage.record.id, stage.record.metrics
    card, proof = stage.read("card.json") or {}, stage.read("verification.json") or {}
    history, section = stage.lines("history.jsonl"), stage.section
    if card.get("dropped"):
        charts[f"{key}-dropped"] = bar_chart(card["dropped"], "documents dropped")
    if history:
        charts[f"{key}-loss"], charts[f"{key}-rate"] = loss_chart(history), rate_chart(history)
    return {
        "id": key,
        "title": stage.record.kind.replace("_", " ").capitalize(),
        "metrics": {} if stage.record.kind == "evaluate" else _figures(metrics),  # the scorecard has them
        "card": card,
        "samples": (stage.read("samples.json") or {}) if show_samples else {},
        "training": bool(history),
        "section": _drawn(key, section, charts),
        "compared": [proof[step] for step in ("conversion", "quantization") if step in proof],
        "proof": json.dumps(proof, indent=1, ensure_ascii=False) if proof else "",
        "verified": stage.record.kind == "export" and metrics.get("verified"),
    }


def _drawn(key: str, section: Section | None, charts: dict[str, dict[str, Any]]) -> Section | None:
    """A section, its charts added to those of the page."""
    for number, chart in enumerate(section.charts if section else ()):
        charts[f"{key}-section-{number}"] = chart_of(chart)
    return section


def _answers(story: RunStory) -> list[dict[str, Any]]:
    """One entry a prompt: {"prompt", "answers": [(stage, text)]}."""
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for stage in story.of_kind("answers"):
        for answer in stage.read("answers.json") or []:
            by_prompt.setdefault(answer["prompt"], []).append((stage.record.inputs["model"], answer["answer"]))
    return [{"prompt": prompt, "answers": answers} for prompt, answers in by_prompt.items()]


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The plain figures of a stage's metrics, nested ones left to the files."""
    return {key: value for key, value in metrics.items() if isinstance(value, int | float | str | bool)}


def _figure(value: Any) -> str:
    """A metric as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

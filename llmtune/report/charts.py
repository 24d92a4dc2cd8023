"""Charts as plotly figures in JSON; the page's script draws them in its light or dark colours."""

from __future__ import annotations

from typing import Any

from llmtune.section import Chart

_LAYOUT = {
    "margin": {"l": 52, "r": 12, "t": 8, "b": 40},
    "height": 300,
    "autosize": True,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "legend": {"orientation": "h", "y": 1.12},
}
# Of the series of a scatter: a ring around a dot shows both where they coincide.
_MARKERS = ({"symbol": "circle", "size": 7}, {"symbol": "circle-open", "size": 13}, {"symbol": "diamond", "size": 7})


def loss_chart(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Training loss by step and validation loss as points. history rows: step, loss, lr, valid_loss (some)."""
    train = [row for row in history if row.get("loss") is not None]
    valid = [row for row in history if row.get("valid_loss") is not None]
    traces = [_line("training loss", train, "loss")]
    if valid:
        traces.append(_line("validation loss", valid, "valid_loss") | {"mode": "lines+markers"})
    return _figure(traces, "step", "loss (nats a token)")


def rate_chart(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Learning rate by step."""
    rows = [row for row in history if row.get("lr") is not None]
    return _figure([_line("learning rate", rows, "lr")], "step", "learning rate")


def bar_chart(values: dict[str, float], unit: str) -> dict[str, Any]:
    """Horizontal bars, largest on top."""
    ordered = sorted(values.items(), key=lambda item: item[1])
    names, sizes = [name for name, _ in ordered], [size for _, size in ordered]
    figure = _figure([{"type": "bar", "orientation": "h", "y": names, "x": sizes}], unit, "")
    figure["layout"]["height"] = 80 + 30 * len(values)
    figure["layout"]["yaxis"]["ticksuffix"] = " "  # between a name and its bar
    return figure


def chart_of(chart: Chart) -> dict[str, Any]:
    """A chart that a stage brought (see llmtune/section.py)."""
    if chart.kind == "bars":
        ((_, values),) = chart.series.items()
        return bar_chart({str(name): value or 0.0 for name, value in zip(chart.x, values, strict=True)}, chart.x_title)
    if chart.kind == "heat":
        rows = list(chart.series)
        heat = {"type": "heatmap", "x": [str(x) for x in chart.x], "y": rows, "z": list(chart.series.values()),
                "colorscale": "Viridis"}  # fmt: skip
        figure = _figure([heat], chart.x_title, chart.y_title)
        figure["layout"]["height"] = 120 + 18 * len(rows)
        figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
        figure["layout"]["xaxis"] |= {"automargin": True, "type": "category"}
        return figure
    mode = {"lines": "lines", "points": "markers"}[chart.kind]
    traces = [
        {"type": "scatter", "mode": mode, "name": name, "x": list(chart.x), "y": list(values)}
        | ({"marker": _MARKERS[number % len(_MARKERS)]} if chart.kind == "points" else {})
        for number, (name, values) in enumerate(chart.series.items())
    ]
    figure = _figure(traces, chart.x_title, chart.y_title)
    figure["layout"]["showlegend"] = len(traces) > 1
    return figure


def _line(name: str, rows: list[dict[str, Any]], field: str) -> dict[str, Any]:
    points = {"x": [row["step"] for row in rows], "y": [row[field] for row in rows]}
    return {"type": "scatter", "mode": "lines", "name": name, **points}


def _figure(traces: list[dict[str, Any]], x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}, "automargin": True}}
    return {"data": traces, "layout": {**_LAYOUT, **axes}}

"""The curves of a page: drawings, their legend, their values, and the points for whoever hovers."""

from __future__ import annotations

import json
import math

from eventlog.analysis.reports import telling
from eventlog.analysis.reports.charts import HEIGHT, LEFT, RIGHT, WIDTH, is_switchable, svg, swatch
from eventlog.analysis.reports.markup import Cell, Markup, join, name, one_line, table, tag, text
from eventlog.analysis.reports.model import Chart, Report
from eventlog.analysis.reports.scales import x_scale


def drawn_places(report: Report) -> list[int]:
    """Return the standings that have a curve."""
    return sorted({place for chart in report.charts for place in chart.places})


def shown_curves(report: Report) -> Markup:
    """Return the charts below their legend, whose boxes switch curves on and off."""
    if not report.charts:
        return Markup("")
    labels = report.standings.places
    switches = join(
        Markup(f'<label><input type="checkbox" class="k{i}" checked>{_key(i, labels[i].label)}</label>')
        for i in drawn_places(report)
    )
    left = len(report.standings.places) + report.standings.left_out - len(drawn_places(report))
    band = (
        "Lines are means over the runs of a group, bands one standard deviation. "
        if report.standings.group_by
        else ""
    )
    more = f"{left} more are not drawn." if left > 0 else ""
    panels = join(_panel(chart) for chart in report.charts)
    return Markup(
        f'{tag("p", band + more, of="note") if band or more else ""}<div class="legend">{switches}</div>'
        f'<div class="charts">{panels}</div>'
    )


def _panel(chart: Chart) -> Markup:
    switch = (
        f'<label><input type="checkbox" class="logs"{" checked" if chart.is_log else ""}> log scale</label>'
        if is_switchable(chart)
        else ""
    )
    rows = [
        [
            Cell(marked(place, curve.label)),
            *(Cell(cell, is_number=True) for cell in telling.curve_cells(curve, chart)),
        ]
        for curve, place in zip(chart.curves, chart.places, strict=True)
    ]
    values = table(["curve", "first", "best", "last"], rows, numbers=("first", "best", "last"))
    notes = join(tag("p", note, of="note") for note in chart.notes)
    return Markup(
        f'<div class="chart"><div class="top"><h3>{text(chart.key)}</h3>{switch}</div>{svg(chart)}{notes}'
        f"<details><summary>Values</summary>{values}</details>"
        f'<script type="application/json">{_data(chart)}</script></div>'
    )


def _data(chart: Chart) -> str:
    """Return the points for whoever hovers, as JSON that cannot end its element."""
    across = x_scale([x for curve in chart.curves for x in curve.xs], LEFT, RIGHT)
    found = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "low": across.low,
        "high": across.high,
        "curves": [
            {
                "place": place,
                "name": one_line(curve.label, 80),
                "x": curve.xs,
                "y": [_short(value) for value in curve.ys],
                "s": None
                if curve.low is None or curve.high is None
                else [_short((high - low) / 2, 3) for low, high in zip(curve.low, curve.high, strict=True)],
            }
            for curve, place in zip(chart.curves, chart.places, strict=True)
        ],
    }
    said = json.dumps(found, separators=(",", ":"), allow_nan=False)
    return said.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _short(value: float, digits: int = 6) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def marked(place: int, label: str) -> Markup:
    """Return a name behind the line that the charts draw for it."""
    return tag("span", _key(place, label), of="row")


def _key(place: int, label: str) -> Markup:
    return Markup(f"{swatch(place)} {name(one_line(label, 80))}")

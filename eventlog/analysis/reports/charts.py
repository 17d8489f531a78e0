"""Draws curves and strips as SVG: lines, bands, axes; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eventlog.analysis.groups import Spread
from eventlog.analysis.plots.axes import drawable
from eventlog.analysis.plots.curves import Curve
from eventlog.analysis.reports.markup import Markup, text
from eventlog.analysis.reports.model import Chart
from eventlog.analysis.reports.scales import Scale, has_log, x_scale, y_scale

WIDTH, HEIGHT = 560, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 548, 10, 250
COLOURS = 8
"""So many; those that come after them repeat them with broken lines."""

Point = tuple[float, float]


def kind(place: int) -> str:
    """Return the classes of what belongs to a place: its own, its colour, its kind of line."""
    return f"p{place} c{place % COLOURS}{' d' + str(place // COLOURS % 3) if place >= COLOURS else ''}"


def chart_values(chart: Chart) -> list[float]:
    """Return the values of all curves, without their bands."""
    return [value for curve in chart.curves for value in curve.ys]


def is_switchable(chart: Chart) -> bool:
    """Tell whether a chart has both axes."""
    return has_log(chart_values(chart))


def svg(chart: Chart) -> Markup:
    """Return the drawing of *chart*, with both axes if a logarithmic one makes sense: the style shows one."""
    across = x_scale([x for curve in chart.curves for x in curve.xs], LEFT, RIGHT)
    parts = [_layer(chart, across, is_log=False)]
    if is_switchable(chart):
        parts.append(_layer(chart, across, is_log=True))
    ends = "".join(
        f'<text class="tick" x="{_n(across.place(x))}" y="{BOTTOM + 16}" text-anchor="middle">{label}</text>'
        for x, label in across.ticks(7)
    )
    told = ", ".join(curve.label for curve in chart.curves)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(f"{chart.key} by step: {told}")}">'
        f'{"".join(parts)}{ends}<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>'
        f'<text class="tick" x="{(LEFT + RIGHT) // 2}" y="{HEIGHT - 6}" text-anchor="middle">step</text>'
        f'<line class="cross" x1="0" x2="0" y1="{TOP}" y2="{BOTTOM}"/></svg>'
    )


def _layer(chart: Chart, across: Scale, *, is_log: bool) -> str:
    """Return grid and curves over one of the two axes."""
    values = chart_values(chart)
    if not is_log or has_log(values):
        values = values + [
            value
            for curve in chart.curves
            for band in (curve.low, curve.high)
            for value in band or []
            if not is_log or value > 0
        ]
    up = y_scale(values, BOTTOM, TOP, is_log=is_log)
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{_n(y)}" y2="{_n(y)}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{_n(y + 4)}" text-anchor="end">{label}</text>'
        for value, label in up.ticks(6)
        if TOP - 1 <= (y := up.place(value)) <= BOTTOM + 1
    )
    # The best one is drawn last, over the others.
    order = sorted(range(len(chart.curves)), key=lambda i: -chart.places[i])
    drawn = "".join(_curve(chart.curves[i], chart.places[i], across, up) for i in order)
    return f'<g class="{"log" if is_log else "lin"}">{grid}{drawn}</g>'


def _curve(curve: Curve, place: int, across: Scale, up: Scale) -> str:
    parts = []
    if curve.low is not None and curve.high is not None:
        low, high = (_points(curve.xs, band, across, up, floor=True) for band in (curve.low, curve.high))
        shapes = "".join(
            f"{_path(above)}L{_path(below[::-1])[1:]}Z" for above, below in _stretches_of_two(high, low)
        )
        parts.append(f'<path class="band" d="{shapes}"/>' if shapes else "")
    points = _points(curve.xs, curve.ys, across, up)
    path = "".join(map(_path, _stretches(points)))
    parts.append(f'<path class="line" d="{path}"/>' if path else "")
    parts.append(_end_of_numbers(curve, points, across))
    return f'<g class="{kind(place)}">{"".join(parts)}</g>'


def _points(
    xs: Sequence[float], ys: Sequence[float], across: Scale, up: Scale, *, floor: bool = False
) -> list[Point]:
    """Return where the points lie, gaps at NaN; with *floor*, what has no logarithm lies on the axis."""
    found = []
    for x, y in zip(xs, drawable(ys, log_y=up.is_log), strict=True):
        if y != y and floor and up.is_log:
            found.append((across.place(x), up.start))
        else:
            found.append((across.place(x), up.place(y) if y == y else math.nan))
    return found


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """Return the points between gaps."""
    found: list[list[Point]] = [[]]
    for point in points:
        if point[1] == point[1]:
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [part for part in found if part]


def _stretches_of_two(high: Sequence[Point], low: Sequence[Point]) -> list[tuple[list[Point], list[Point]]]:
    marked = [
        (x, top if bottom == bottom else math.nan) for (x, top), (_, bottom) in zip(high, low, strict=True)
    ]
    other = [(x, bottom if top == top else math.nan) for (x, top), (_, bottom) in zip(high, low, strict=True)]
    return list(zip(_stretches(marked), _stretches(other), strict=True))


def _path(points: Sequence[Point]) -> str:
    """Return a line through *points*; a single one becomes a dot, for its ends are round."""
    first, *rest = points
    if not rest:
        return f"M{_n(first[0])} {_n(first[1])}h0"
    return f"M{_n(first[0])} {_n(first[1])}" + "".join(f"L{_n(x)} {_n(y)}" for x, y in rest)


def _end_of_numbers(curve: Curve, points: Sequence[Point], across: Scale) -> str:
    """Return a cross where the first NaN is."""
    if curve.first_not_finite is None:
        return ""
    at = across.place(curve.first_not_finite)
    before = [point for point in points if point[0] <= at and point[1] == point[1]]
    y = before[-1][1] if before else (TOP + BOTTOM) / 2
    return (
        f'<path class="nan" d="M{_n(at - 4)} {_n(y - 4)}l8 8m0 -8l-8 8"><title>first NaN or infinity: step '
        f"{curve.first_not_finite:g}</title></path>"
    )


def _n(value: float) -> str:
    """Return a place with a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


# --- strips ------------------------------------------------------------------------------------------


def strip(values: Sequence[float], spread: Spread | None, shown: Sequence[float], place: int) -> Markup:
    """Return the values of a place as dots on a line, with mean and deviation.

    Args:
        shown: the values of all places, which say where the line begins and ends.
    """
    across = y_scale(shown, 6, 174, is_log=False)
    dots = "".join(
        f'<circle class="dot" cx="{_n(across.place(value))}" cy="9" r="3.5"/>'
        for value in values
        if math.isfinite(value)
    )
    whisker = ""
    if (
        spread is not None
        and math.isfinite(spread.mean)
        and spread.std is not None
        and math.isfinite(spread.std)
    ):
        low, high = (
            min(max(across.place(value), 1), 179)
            for value in (spread.mean - spread.std, spread.mean + spread.std)
        )
        middle = _n(across.place(spread.mean))
        whisker = (
            f'<line class="whisker" x1="{_n(low)}" x2="{_n(high)}" y1="9" y2="9"/>'
            f'<line class="whisker" x1="{middle}" x2="{middle}" y1="3" y2="15"/>'
        )
    return Markup(
        f'<svg class="strip {kind(place)}" viewBox="0 0 180 18" aria-hidden="true">'
        f'<line class="grid" x1="0" x2="180" y1="9" y2="9"/>{dots}{whisker}</svg>'
    )


def swatch(place: int) -> Markup:
    """Return a piece of the line of a place."""
    return Markup(
        f'<svg class="swatch {kind(place)}" viewBox="0 0 22 10" aria-hidden="true">'
        '<path class="line" d="M2 5L20 5"/></svg>'
    )


# --- texts -------------------------------------------------------------------------------------------

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(curve: Curve, width: int = 24) -> str:
    """Return a curve as a line of blocks, one for each of at most *width* points; gaps are spaces."""
    count = min(width, len(curve.ys))
    shown = [curve.ys[round(i * (len(curve.ys) - 1) / max(1, count - 1))] for i in range(count)]
    real = [value for value in shown if math.isfinite(value)]
    if not real:
        return ""
    low, high = min(real), max(real)
    scale = (len(_BLOCKS) - 1) / (high - low) if 0 < high - low < math.inf else 0.0
    return "".join(
        _BLOCKS[round((value - low) * scale)] if value == value else " " for value in shown
    ).rstrip()

"""Curves as a matplotlib figure, and as files that are the same whenever they are made."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eventlog.analysis.plots.axes import COLOURS, drawable, time_unit
from eventlog.analysis.plots.curves import Curve, Curves
from eventlog.analysis.statistics.vectors import StatisticsError, need
from eventlog.errors import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 12
"""Curves that the legend names."""

FORMATS = (".png", ".svg", ".pdf")

CROWDED = 7
"""More curves than these are thin, without what they were before smoothing, and named beside the plot."""

_STYLES = ("-", "--", ":", "-.")
_MUTED = "#555555"


def figure(curves: Curves, *, log_y: bool = False, title: str | None = None) -> Figure:
    """Return *curves* as a figure, a panel for each metric. No display is needed or touched.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    need("figures", "matplotlib", "plot")
    from matplotlib.figure import Figure as NewFigure

    columns = 1 if len(curves.keys) == 1 else 2 if len(curves.keys) <= 4 else 3
    rows = math.ceil(len(curves.keys) / columns)
    width = 8.0 if columns == 1 else 5.2 * columns
    drawn = NewFigure(figsize=(width, 4.2 * rows if rows > 1 else 4.6), layout="constrained")
    grid = drawn.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(curves.keys):
            _panel(axes, curves, curves.keys[place], log_y)
        else:
            axes.set_visible(False)
    if title:
        drawn.suptitle(printable(title)).set_parse_math(False)
    return drawn


def save(
    curves: Curves, path: str | os.PathLike[str], *, log_y: bool = False, title: str | None = None
) -> Path:
    """Write *curves* as PNG, SVG or PDF, as the name says, and return the path.

    The same curves give the same bytes (with one version of matplotlib). The file is whole or not there.

    Raises:
        StatisticsError: the name ends in none of these.
        OSError: it cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in FORMATS:
        raise StatisticsError(f"{target.name!r} does not end in {', '.join(FORMATS)}.")
    drawn = figure(curves, log_y=log_y, title=title)
    import matplotlib

    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[kind]
    young = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with matplotlib.rc_context({"svg.hashsalt": "evlog"}), warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            drawn.savefig(young, format=kind[1:], dpi=150, metadata=dates)
        young.replace(target)
    finally:
        young.unlink(missing_ok=True)
    return target


def _panel(axes: Any, curves: Curves, key: str, log_y: bool) -> None:
    found = curves.panel(key)
    unit = time_unit(found)[0] if curves.x == "relative" else 1.0
    brush = _Brush(x=curves.x, unit=unit, log_y=log_y, is_crowded=len(found) > CROWDED)
    handles = [_draw(axes, curve, place, brush) for place, curve in enumerate(found)]
    _dress(axes, curves, key, found)
    if log_y:
        axes.set_yscale("log")
    if not any(math.isfinite(y) for curve in found for y in (drawable(curve.ys, log_y=log_y))):
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=_MUTED)
        return
    _legend(axes, handles, found)


class _Brush(NamedTuple):
    x: str
    unit: float
    log_y: bool
    is_crowded: bool


def _draw(axes: Any, curve: Curve, place: int, brush: _Brush) -> Any:
    def scale(values: list[float]) -> list[float]:
        return drawable(values, log_y=brush.log_y)

    colour = COLOURS[place % len(COLOURS)]
    style = _STYLES[place // len(COLOURS) % len(_STYLES)]
    xs: list[Any] = [value / brush.unit for value in curve.xs]
    if brush.x == "time":
        xs = [datetime.fromtimestamp(value, UTC) for value in curve.xs]
    if curve.low is not None and curve.high is not None:
        # On a log axis a band that reaches below zero is cut, not gone.
        floor = min((y for y in scale(curve.ys) if y == y), default=0.0) / 10 if brush.log_y else -math.inf
        low = [max(value, floor) for value in drawable(curve.low, log_y=False)]
        axes.fill_between(xs, low, drawable(curve.high, log_y=False), color=colour, alpha=0.2, linewidth=0)
    if curve.raw is not None and not brush.is_crowded:
        axes.plot(xs, scale(curve.raw), color=colour, alpha=0.25, linewidth=0.8)
    (line,) = axes.plot(
        xs, scale(curve.ys), color=colour, linestyle=style, linewidth=1.0 if brush.is_crowded else 1.6
    )
    _lone_points(axes, xs, scale(curve.ys), colour)
    return line


def _lone_points(axes: Any, xs: Sequence[Any], ys: Sequence[float], colour: str) -> None:
    """Mark points with a gap on both sides, which a line does not show."""
    ends = [math.nan, *ys, math.nan]
    alone = [i for i, y in enumerate(ys) if y == y and ends[i] != ends[i] and ends[i + 2] != ends[i + 2]]
    if alone:
        axes.plot([xs[i] for i in alone], [ys[i] for i in alone], ".", color=colour, markersize=7)


def _dress(axes: Any, curves: Curves, key: str, found: Sequence[Curve]) -> None:
    names = {"step": "step", "time": "time (UTC)", "relative": f"{time_unit(found)[1]} since the start"}
    axes.set_xlabel(names[curves.x], color=_MUTED)
    smoothed = f"  (smoothed {curves.smooth:g})" if curves.smooth else ""
    title = axes.set_title(f"{printable(key)}{smoothed}", loc="left", fontsize=11)
    title.set_parse_math(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#aaaaaa")
    axes.tick_params(colors=_MUTED, labelsize=9)
    axes.margins(x=0.01)
    axes.ticklabel_format(axis="y", useOffset=False)
    if curves.x != "time":
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    else:
        from matplotlib import dates

        untyped: Any = dates
        locator = untyped.AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))


def _legend(axes: Any, handles: Sequence[Any], found: Sequence[Curve]) -> None:
    from matplotlib.lines import Line2D

    named = list(handles[:NAMED])
    texts = [printable(curve.label) for curve in found[:NAMED]]
    texts = [text if len(text) <= 48 else f"{text[:47]}…" for text in texts]
    if len(found) > NAMED:
        named.append(Line2D([], [], linestyle="none"))
        texts.append(f"and {len(found) - NAMED} more")
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(found) > CROWDED else {}
    numbers = [str(place) for place in range(len(named))]
    legend = axes.legend(named, numbers, fontsize=9, frameon=False, **beside)
    # Set afterwards: a name that begins with _ would be left out, and $ would begin a formula.
    for label, text in zip(legend.get_texts(), texts, strict=True):
        label.set_parse_math(False)
        label.set_text(text)

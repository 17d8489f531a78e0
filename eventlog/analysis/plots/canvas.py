"""Lines of text with curves in them, drawn by plotext; its versions 5 and 6 have different calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from eventlog.analysis.plots.axes import Range
from eventlog.analysis.statistics.vectors import need

_ONE_AT_A_TIME = threading.Lock()
"""plotext has one figure for the whole process."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Points that are drawn with *marker*, joined or not; *colour* is one of the 256 of a terminal."""

    xs: list[float]
    ys: list[float]
    marker: str
    colour: int | None
    is_joined: bool = True


class Canvas(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn: lines within a range, with ticks (place and text)."""

    width: int
    height: int
    x: Range
    y: Range
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: Sequence[Line]


def draw(canvas: Canvas, *, has_colour: bool) -> str:
    """Return *canvas* as lines of text.

    Raises:
        MissingExtraError: plotext is not installed.
    """
    need("curves in the terminal", "plotext", "plot")
    import plotext

    with _ONE_AT_A_TIME:
        drawn = _fifth(canvas) if hasattr(plotext, "clear_figure") else _sixth(canvas)
    text = drawn if has_colour else str(plotext.uncolorize(drawn))
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _sixth(canvas: Canvas) -> str:
    import plotext

    figure = plotext.figure
    figure.clear()
    plotext.terminal.limit(False, False)
    figure.plot_size(canvas.width, canvas.height)
    figure.theme("colorless")
    for line in canvas.lines:
        colour = () if line.colour is None else (line.colour,)
        signal = figure.signal(line.xs, line.ys, marker=plotext.marker(line.marker, *colour))
        figure.draw(signal.lines() if line.is_joined else signal)
    for axis, shown, ticks in (("x", canvas.x, canvas.x_ticks), ("y", canvas.y, canvas.y_ticks)):
        ruler = figure.ruler(axis)
        ruler.lim(shown.low, shown.high)
        ruler.ticks([place for place, _ in ticks], [text for _, text in ticks])
    drawn = str(figure.build().string())
    figure.clear()
    return drawn


def _fifth(canvas: Canvas) -> str:
    import plotext

    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(canvas.width, canvas.height)
    plotext.theme("clear")
    for line in canvas.lines:
        show = plotext.plot if line.is_joined else plotext.scatter
        show(line.xs, line.ys, marker=line.marker, color=line.colour)
    plotext.xlim(canvas.x.low, canvas.x.high)
    plotext.ylim(canvas.y.low, canvas.y.high)
    plotext.xticks(*([list(part) for part in zip(*canvas.x_ticks, strict=True)] or [[], []]))
    plotext.yticks(*([list(part) for part in zip(*canvas.y_ticks, strict=True)] or [[], []]))
    drawn = str(plotext.build())
    plotext.clear_figure()
    return drawn

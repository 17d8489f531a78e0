"""Curves as text, for terminals and pipes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from eventlog.analysis.plots.axes import (
    Range,
    drawable,
    moment,
    spanned,
    tick_text,
    ticks,
    time_unit,
)
from eventlog.analysis.plots.canvas import Canvas, Line, draw
from eventlog.analysis.plots.curves import Curve, Curves
from eventlog.errors import printable

NAMED = 8
"""Curves that the legend names."""

_COLOURS = (32, 208, 36, 166, 175, 74, 246)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LEAST_HEIGHT = 8


def terminal(
    curves: Curves, *, width: int = 80, height: int = 20, has_colour: bool = False, log_y: bool = False
) -> str:
    """Return *curves* as lines of text, a panel for each metric.

    Args:
        width: columns.
        height: lines of a panel, with its title and legend; at least 8 are taken for the plot alone.
        has_colour: braille dots in colour; otherwise each curve is drawn with a letter of its own.

    Raises:
        MissingExtraError: plotext is not installed.
    """
    panels = [_panel(curves, key, max(width, 30), height, has_colour, log_y) for key in curves.keys]
    return "\n\n".join(panels)


def _panel(curves: Curves, key: str, width: int, height: int, has_colour: bool, log_y: bool) -> str:
    found = curves.panel(key)
    smoothed = f", smoothed {curves.smooth:g}" if curves.smooth else ""
    title = f"{printable(key)} by {_x_name(curves, found)}{smoothed}{', log' if log_y else ''}"
    title = title[:width]
    unit = time_unit(found)[0] if curves.x == "relative" else 1.0
    shown = [_scaled(curve, unit, log_y) for curve in found]
    if not any(math.isfinite(y) for curve in shown for y in curve[1]):
        return f"{title}\n  no finite values to draw"
    legend = _legend(found, has_colour, width)
    canvas = Canvas(
        width=width,
        height=max(_LEAST_HEIGHT, height - 1 - len(legend)),
        x=(x := spanned([value for curve in shown for value in curve[0]])),
        y=(y := _heights(shown, log_y)),
        x_ticks=_x_ticks(curves.x, x, width),
        y_ticks=_log_ticks(y) if log_y else _plain_ticks(y, max(3, height // 4)),
        lines=list(_lines(shown, width, has_colour)),
    )
    return "\n".join([title, draw(canvas, has_colour=has_colour), *legend])


def _heights(shown: Sequence[Drawn], log_y: bool) -> Range:
    found = [value for curve in shown for line in curve[1:] for value in line if value == value]
    if log_y and min(found) == max(found):
        return Range(found[0] - 0.5, found[0] + 0.5)
    return spanned(found, margin=0.03)


def _x_name(curves: Curves, found: Sequence[Curve]) -> str:
    if curves.x == "relative":
        return f"{time_unit(found)[1]} since the start"
    return "time (UTC)" if curves.x == "time" else "step"


Drawn = tuple[list[float], list[float], list[float], list[float]]
"""x, y, and the edges of the band (empty without one), as they lie on the canvas."""


def _scaled(curve: Curve, unit: float, log_y: bool) -> Drawn:
    lines = [drawable(line, log_y=log_y) for line in (curve.ys, curve.low or [], curve.high or [])]
    if log_y:
        lines = [[math.log10(y) if y == y else y for y in line] for line in lines]
    return [x / unit for x in curve.xs], lines[0], lines[1], lines[2]


def _lines(shown: Sequence[Drawn], width: int, has_colour: bool) -> Iterator[Line]:
    # Bands first: means lie over them.
    for place, (xs, _, low, high) in enumerate(shown):
        for edge in (low, high):
            if edge:
                every = max(1, len(xs) // max(1, width // 2))
                points = [(x, y) for x, y in list(zip(xs, edge, strict=True))[::every] if y == y]
                if points:
                    yield Line(
                        xs=[x for x, _ in points],
                        ys=[y for _, y in points],
                        marker="braille" if has_colour else ".",
                        colour=_colour(place) if has_colour else None,
                        is_joined=False,
                    )
    # The first run is drawn last, so that it is never hidden.
    for place, (xs, ys, _, _) in reversed(list(enumerate(shown))):
        for part_x, part_y in pieces(xs, ys):
            yield Line(
                xs=part_x,
                ys=part_y,
                marker="braille" if has_colour else _LETTERS[place % len(_LETTERS)],
                colour=_colour(place) if has_colour else None,
                is_joined=len(part_x) > 1,
            )


def pieces(xs: Sequence[float], ys: Sequence[float]) -> Iterator[tuple[list[float], list[float]]]:
    """Yield the parts of a curve between its gaps."""
    part_x: list[float] = []
    part_y: list[float] = []
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y):
            part_x.append(x)
            part_y.append(y)
        elif part_x:
            yield part_x, part_y
            part_x, part_y = [], []
    if part_x:
        yield part_x, part_y


def _colour(place: int) -> int:
    return _COLOURS[place % len(_COLOURS)]


def _legend(found: Sequence[Curve], has_colour: bool, width: int) -> list[str]:
    lines = []
    for place, curve in enumerate(found[:NAMED]):
        last = next((y for y in reversed(curve.ys) if y == y), math.nan)
        std = f" ± {(curve.high[-1] - curve.low[-1]) / 2:.2g}" if curve.low and curve.high else ""
        name = f"  last {last:<9.4g}{std:<10}" if any(one.low for one in found) else f"  last {last:<9.4g}"
        text = f"{name}  {printable(curve.label)}"[: max(10, width - 3)]
        mark = f"\x1b[38;5;{_colour(place)}m⠒⠒\x1b[0m" if has_colour else _LETTERS[place % len(_LETTERS)] * 2
        lines.append(f" {mark}{text.rstrip()}")
    if len(found) > NAMED:
        lines.append(f"    and {len(found) - NAMED} more")
    return lines


# --- ticks -----------------------------------------------------------------------------------------


def _plain_ticks(shown: Range, most: int) -> list[tuple[float, str]]:
    places = ticks(shown, most)
    step = places[1] - places[0] if len(places) > 1 else abs(places[0]) or 1.0
    return [(place, tick_text(place, step)) for place in places]


def _x_ticks(x: str, shown: Range, width: int) -> list[tuple[float, str]]:
    if x != "time":
        return _plain_ticks(shown, max(2, width // 12))
    count = max(2, width // 24)
    span = shown.high - shown.low
    places = [shown.low + span * i / count for i in range(count)]
    return [(place, moment(place, span)) for place in places]


def _log_ticks(shown: Range) -> list[tuple[float, str]]:
    """Return powers of ten; between them 2 and 5 where there are few."""
    powers = range(max(-307, math.floor(shown.low)), min(308, math.ceil(shown.high)) + 1)
    every = max(1, len(powers) // 6)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    found = [(p + math.log10(f), f * 10.0**p) for p in powers if p % every == 0 for f in factors]
    inside = [(place, f"{value:.4g}") for place, value in found if shown.low <= place <= shown.high]
    return inside or [(place, f"{10**place:.3g}") for place in ticks(shown, 4)]

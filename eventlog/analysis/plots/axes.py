"""Axes for people: round ticks, units of time, and text that cannot move a cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from eventlog.analysis.plots.curves import Curve

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
"""Told apart by people with any kind of colour vision.

Source: Okabe and Ito (2008), "Color Universal Design"; without its yellow, which nobody sees on white.
"""

_LARGEST = 1e300
"""So that the width of an axis is a number too."""

_SMALLEST = 1e-300
"""So that a step between ticks has all its digits."""

_UNITS = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


class Range(msgspec.Struct, frozen=True):
    """From where to where an axis goes."""

    low: float
    high: float


def spanned(values: Sequence[float], *, margin: float = 0.0) -> Range:
    """Return the range of the finite *values*, wider by *margin* of it; never without width."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Range(0.0, 1.0)
    low, high = min(finite), max(finite)
    if low == high:
        reach = abs(low) / 2 or 0.5
        return Range(low - reach, high + reach)
    return Range(low - margin * (high - low), high + margin * (high - low))


def ticks(shown: Range, most: int) -> list[float]:
    """Return at most *most* round numbers within *shown*: multiples of 1, 2 or 5 times a power of ten."""
    span = shown.high - shown.low
    if not math.isfinite(span) or span / max(1, most) < _SMALLEST:
        return [shown.low]
    power = math.floor(math.log10(span / max(1, most)))
    for step in (factor * 10.0**p for p in range(power, power + 3) for factor in (1, 2, 5)):
        first, last = math.ceil(shown.low / step - 1e-9), math.floor(shown.high / step + 1e-9)
        if last - first + 1 <= most:
            return [count * step for count in range(first, last + 1)]
    return [shown.low]


def tick_text(value: float, step: float) -> str:
    """Return a tick as short as its neighbours, *step* away, allow."""
    if value == 0 or abs(value) < step * 1e-9:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 4
        return f"{value:.{min(digits, 8)}f}"
    return f"{value:.4g}"


def time_unit(curves: Sequence[Curve]) -> tuple[float, str]:
    """Return the seconds and the name of the unit that suits times since the start."""
    longest = max((curve.xs[-1] for curve in curves if curve.xs), default=0.0)
    return next((unit for unit in _UNITS if longest >= 2 * unit[0]), _UNITS[-1])


def moment(seconds: float, span: float) -> str:
    """Return a time (seconds since the epoch, UTC) as precisely as an axis of *span* seconds needs it."""
    form = "%Y-%m-%d" if span > 4 * 86_400 else "%m-%d %H:%M" if span > 86_400 else "%H:%M:%S"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def drawable(values: Sequence[float], *, log_y: bool) -> list[float]:
    """Return *values* as an axis can take them: within ±1e300; what has no logarithm becomes a gap."""
    cut = [min(max(value, -_LARGEST), _LARGEST) if value == value else value for value in values]
    return [value if value > 0 else math.nan for value in cut] if log_y else cut

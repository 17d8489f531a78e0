"""From values to places on the paper: linear and logarithmic axes with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from eventlog.analysis.plots.axes import drawable, spanned, tick_text, ticks

_NARROWEST = 1e-290


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """An axis from *low* to *high* (of their logarithms to the base 10 if *is_log*) between two places."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Return where *value* lies; one beyond the axis lies at its end."""
        number = math.log10(value) if self.is_log else value
        # Halved, so that the width of an axis over all floats is a number too.
        share = (number / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return self.start + min(max(share, -0.5), 1.5) * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Return at most *most* round values and their texts."""
        return self._log_ticks(most) if self.is_log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[tuple[float, str]]:
        from eventlog.analysis.plots.axes import Range

        found = ticks(Range(self.low, self.high), most)
        step = found[1] - found[0] if len(found) > 1 else abs(found[0])
        return [(value, tick_text(value, step)) for value in found]

    def _log_ticks(self, most: int) -> list[tuple[float, str]]:
        first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        powers = list(range(first, last + 1))
        step = max(1, math.ceil(len(powers) / most))
        found = [10.0**power for power in powers[::step] if -300 < power < 300]
        if len(found) < 3:
            low, high = math.floor(self.low), math.ceil(self.high)
            finer = [factor * 10.0**power for power in range(low, high + 1) for factor in (1, 2, 5)]
            found = [value for value in finer if self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9]
        return [(value, f"{value:g}") for value in found[:most]]


def x_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Return the axis of steps, from the first to the last."""
    shown = spanned(values)
    return Scale(low=shown.low, high=shown.high, start=start, end=end)


def y_scale(values: Sequence[float], start: float, end: float, *, is_log: bool) -> Scale:
    """Return the axis of values with a little room on both sides."""
    real = [value for value in drawable(values, log_y=is_log) if math.isfinite(value)]
    shown = spanned([math.log10(value) for value in real] if is_log else real, margin=0.04)
    # Ticks between the smallest of all floats cannot be counted.
    room = _NARROWEST if shown.high - shown.low < _NARROWEST else 0.0
    return Scale(low=shown.low - room, high=shown.high + room, start=start, end=end, is_log=is_log)


def has_log(values: Sequence[float]) -> bool:
    """Tell whether a logarithmic axis shows more: all are above zero, the largest ten times the least."""
    real = [value for value in values if math.isfinite(value)]
    return bool(real) and min(real) > 0 and max(real) / 10 >= min(real)

"""The points of one metric as arrays, and fewer of them for a plot."""

from __future__ import annotations

import importlib.util
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Series(NamedTuple):
    """The points of a metric in the order of their steps.

    With numpy installed these are arrays: *steps* int64, or float64 with NaN where a point has no step;
    *values* float64; *times* datetime64[us], UTC. Without it: a list, an `array` of doubles, and an `array`
    of microseconds since the epoch.
    """

    steps: Any
    values: Any
    times: Any

    def __repr__(self) -> str:
        if not len(self.values):
            return "<Series: no points>"
        return f"<Series: {len(self.values)} points, steps {self.steps[0]} to {self.steps[-1]}>"

    @classmethod
    def of_arrays(cls, columns: Mapping[str, Any]) -> Series:
        """Return what DuckDB's `fetchnumpy` gives for step, t (µs) and value."""
        import numpy

        steps = columns["step"]
        if numpy.ma.is_masked(steps):
            steps = steps.astype(numpy.float64).filled(numpy.nan)
        plain = [numpy.ma.getdata(column) for column in (steps, columns["value"], columns["t"])]
        return cls(plain[0], plain[1], plain[2].astype("datetime64[us]"))

    def thinned(self, count: int) -> Series:
        """Return at most *count* points whose line looks the same: the largest triangle of each bucket.

        First and last point stay. Points that are no finite number are left out.

        Source: Steinarsson (2013), "Downsampling Time Series for Visual Representation", Univ. of Iceland.
        """
        finite = [i for i, value in enumerate(self.values) if math.isfinite(value)]
        if len(finite) <= count:
            return self.at(finite)
        return self.at(
            [finite[i] for i in _largest_triangles([float(self.values[i]) for i in finite], count)]
        )

    def at(self, places: Sequence[int]) -> Series:
        """Return the points at *places*."""
        if has_numpy():
            import numpy

            chosen = numpy.asarray(places, dtype=numpy.int64)
            return Series(self.steps[chosen], self.values[chosen], self.times[chosen])
        return Series(
            [self.steps[i] for i in places],
            array("d", [self.values[i] for i in places]),
            array("q", [self.times[i] for i in places]),
        )


def series(rows: Sequence[tuple[object, ...]]) -> Series:
    """Return rows of step, time (µs) and value as arrays."""
    steps: list[Any] = [row[0] for row in rows]
    times: list[Any] = [row[1] for row in rows]
    values: list[Any] = [row[2] for row in rows]
    if not has_numpy():
        return Series(steps, array("d", values), array("q", times))
    import numpy

    if None in steps:
        numbers = numpy.array([math.nan if step is None else step for step in steps], dtype=numpy.float64)
    else:
        numbers = numpy.array(steps, dtype=numpy.int64)
    stamps = numpy.array(times, dtype=numpy.int64).astype("datetime64[us]")
    return Series(numbers, numpy.array(values, dtype=numpy.float64), stamps)


def has_numpy() -> bool:
    """Tell whether numpy is installed."""
    return importlib.util.find_spec("numpy") is not None


def _largest_triangles(values: Sequence[float], count: int) -> list[int]:
    """Return the places of the *count* values that span the largest triangles with their neighbours."""
    total = len(values)
    if count < 3:
        return [0, total - 1][:count]
    width = (total - 2) / (count - 2)
    edges = [1 + int(i * width) for i in range(count - 2)] + [total - 1, total]
    chosen = [0]
    for start, end, after in zip(edges, edges[1:], edges[2:], strict=False):
        x, y = chosen[-1], values[chosen[-1]]
        middle_x = (end + after - 1) / 2
        middle_y = math.fsum(values[end:after]) / (after - end)

        def area(i: int, x: int = x, y: float = y, mx: float = middle_x, my: float = middle_y) -> float:
            return abs((x - mx) * (values[i] - y) - (x - i) * (my - y))

        chosen.append(max(range(start, end), key=area))
    return [*chosen, total - 1]

"""The points of a run's metrics, in few bytes each: a run may have millions."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from pathlib import Path

from eventlog import events as ev
from eventlog.clock import iso_utc
from eventlog.replay import open_run

Value = int | float | str


class Series:
    """The points of one metric in the order of the calls; numbers that are not finite are texts."""

    def __init__(self) -> None:
        self._steps: list[int | None] = []
        self._times: array[int] = array("q")
        self._values: list[Value] = []

    def append(self, step: int | None, t_us: int, value: Value) -> None:
        """Add a point."""
        self._steps.append(step)
        self._times.append(t_us)
        self._values.append(value)

    def extend(self, other: Series) -> None:
        """Add the points of another one behind those of this one."""
        self._steps += other._steps
        self._times += other._times
        self._values += other._values

    def timed(self) -> Iterator[list[object]]:
        """Yield step, time and value of each point."""
        for step, t_us, value in zip(self._steps, self._times, self._values, strict=True):
            yield [step, iso_utc(t_us), value]

    def by_step(self) -> Iterator[list[object]]:
        """Yield step and value of each point by step, those without one first; else in the order of calls."""
        steps = [-math.inf if step is None else step for step in self._steps]
        order = sorted(range(len(steps)), key=steps.__getitem__)
        return ([self._steps[i], self._values[i]] for i in order)


def points(run: Path) -> dict[str, Series]:
    """Return the points of *run* by metric; those of other ranks are called ``rank<k>/…``.

    Writers follow each other by their names: which of two was faster by a microsecond does not count.

    Raises:
        OSError: the log cannot be read.
    """
    of_writers: dict[tuple[str, str], Series] = {}
    for part in open_run(run).slices():
        prefix = f"rank{part.rank}/" if part.rank else ""
        for event in part.events:
            if isinstance(event, ev.Metrics):
                for key, value in event.data.items():
                    series = of_writers.setdefault((part.writer, prefix + key), Series())
                    series.append(event.step, event.ts, value)
    found: dict[str, Series] = {}
    for (_, key), series in sorted(of_writers.items(), key=lambda item: item[0]):
        if key in found:
            found[key].extend(series)
        else:
            found[key] = series
    return found

"""Curves of metrics: of runs, or of groups of runs as mean and standard deviation over their seeds.

Rules: of several values at one step the last one counts (a resumed run repeats steps). A group has a mean
at each step at which two or more of its runs have a finite value; nothing is interpolated. Over time, where
no two runs have points at the same instant, a run counts with its last value up to then, between its first
point and its last. Smoothing is done run by run, before anything is averaged. NaN and infinities are gaps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from eventlog.analysis.naming import NoMetricError, pick_metric
from eventlog.analysis.plots.traces import Source, Trace
from eventlog.analysis.runs import directory_of, short_labels
from eventlog.analysis.statistics.outcomes import builtins_of
from eventlog.analysis.statistics.vectors import StatisticsError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from eventlog.analysis.statistics.vectors import Vector

XAxis = Literal["step", "time", "relative"]

MOST_POINTS = 2000
"""Points that are kept of a curve; more than a screen or a page shows."""

_GRID = 400
_YEAR_1, _YEAR_9999 = -6.2e10, 2.5e11
"""Between them lies what calendars know, in seconds since the epoch."""

_SHOWN = 5


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plot.

    Attributes:
        label: the run or the group.
        xs: ascending: steps, seconds since the epoch (``time``) or since the run's start (``relative``).
        ys: as many values; NaN is a gap.
        raw: the same before smoothing, if there was any and this is one run.
        low: mean minus standard deviation (n - 1), of a group; *high*: mean plus it.
        runs: how many runs it is made of.
        points: how many points there were before thinning.
        not_finite: how many of its values were NaN or infinite; the first one at *first_not_finite*.
    """

    label: str
    key: str
    xs: list[float]
    ys: list[float]
    raw: list[float] | None = None
    low: list[float] | None = None
    high: list[float] | None = None
    runs: int = 1
    points: int = 0
    not_finite: int = 0
    first_not_finite: float | None = None


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """What a plot shows: a panel for each of *keys*, each with the curves of that key."""

    x: str
    smooth: float
    keys: list[str]
    curves: list[Curve]
    notes: list[str]

    def panel(self, key: str) -> list[Curve]:
        """Return the curves of one metric."""
        return [curve for curve in self.curves if curve.key == key]

    def to_dict(self) -> dict[str, object]:
        """Return it as builtins; gaps are NaN."""
        return builtins_of(self)


def curves(
    runs: Sequence[str | os.PathLike[str]],
    keys: Sequence[str] = (),
    *,
    root: str | os.PathLike[str] | None = None,
    x: XAxis = "step",
    smooth: float = 0.0,
    groups: Mapping[str, Sequence[str | os.PathLike[str]]] | None = None,
    labels: Mapping[Path, str] | None = None,
    most_points: int = MOST_POINTS,
) -> Curves:
    """Return the curves of *keys* of *runs*.

    Args:
        runs: their names or directories.
        keys: metrics, or ends of names that fit one; none is needed if there is only one metric.
        root: directory of all projects: runs below it are read through the query cache; names are looked for
            there, or in ``EVLOG_DIR`` or ``./experiments``.
        smooth: weight of the past in an exponential moving average, in [0, 1); 0 for none. The start is
            corrected, so that the first point is as it was.
        groups: name of each group -> its runs: a curve for each group instead of each run.
        labels: what runs are called; default as short as they stay different.
        most_points: more points than these are thinned: smallest and largest of each stretch stay.

    Raises:
        RunNotFoundError, AmbiguousRunError: a name fits no run, or several.
        UnknownMetricError, AmbiguousMetricError, NoMetricError: *keys* fit no metric, or several.
        StatisticsError: there are no runs, or an option has no such value.
        OSError: a log cannot be read.
    """
    paths = list(dict.fromkeys(directory_of(run, root) for run in runs))
    of_group = {
        name: [directory_of(run, root) for run in members] for name, members in (groups or {}).items()
    }
    _check(paths, x, smooth, has_groups=groups is not None)
    source = Source(paths, None if root is None else Path(root))
    try:
        has = source.keys()
        chosen = _chosen(keys, set().union(*has.values()))
        traces = source.traces(chosen)
    finally:
        source.close()
    names = dict(zip(paths, short_labels([(p.parent.name, p.name, str(p)) for p in paths]), strict=True))
    names |= labels or {}
    notes = [_missing(key, [names[path] for path in paths if key not in has[path]]) for key in chosen]
    single = [_of_run(trace, names[trace.run], x, smooth, notes) for trace in traces]
    if groups is None:
        found = [_thinned(curve, most_points) for curve in single]
    else:
        by_run = {(trace.run, trace.key): curve for trace, curve in zip(traces, single, strict=True)}
        found = []
        for key in chosen:
            for name, members in of_group.items():
                parts = [by_run[run, key] for run in members if (run, key) in by_run]
                if parts:
                    found.append(_thinned(_of_group(name, key, parts, x, notes), most_points))
    notes += [note for key in chosen if (note := _not_finite(key, found))]
    return Curves(x=x, smooth=smooth, keys=chosen, curves=found, notes=list(filter(None, notes)))


def _check(paths: Sequence[Path], x: str, smooth: float, *, has_groups: bool) -> None:
    if not paths:
        raise StatisticsError("There are no runs to draw. `evlog list` shows what there is.")
    if x not in get_args(XAxis):
        raise StatisticsError(f"There is no axis {x!r}. Take one of {', '.join(get_args(XAxis))}.")
    if not 0 <= smooth < 1:
        raise StatisticsError(f"Smoothing {smooth} is not in [0, 1). Take 0.9, say.")
    if has_groups and x == "time":
        raise StatisticsError("Groups have no common time of day. Take the axis relative, or step.")


def _chosen(wanted: Sequence[str], known: set[str]) -> list[str]:
    if wanted:
        return list(dict.fromkeys(pick_metric(key, known) for key in wanted))
    if len(known) != 1:
        raise NoMetricError(known)
    return list(known)


# --- one run ---------------------------------------------------------------------------------------


def _of_run(trace: Trace, label: str, x: XAxis, smooth: float, notes: list[str]) -> Curve:
    import numpy

    xs, keep = _xs(trace, x)
    if not keep.all():
        notes.append(
            f"{label}: {len(keep) - int(keep.sum())} points of {trace.key} have no {x} and are left out"
        )
    xs, ys = xs[keep], trace.values[keep]
    order = numpy.argsort(xs, kind="stable")
    xs, ys = xs[order], ys[order]
    if x == "step":
        last = numpy.append(numpy.diff(xs) != 0, True) if len(xs) else numpy.zeros(0, dtype=bool)
        xs, ys = xs[last], ys[last]
    is_bad = ~numpy.isfinite(ys)
    ys = numpy.where(is_bad, numpy.nan, ys)
    return Curve(
        label=label,
        key=trace.key,
        xs=xs.tolist(),
        ys=_smoothed(ys.tolist(), smooth),
        raw=ys.tolist() if smooth else None,
        points=len(xs),
        not_finite=int(is_bad.sum()),
        first_not_finite=float(xs[is_bad][0]) if is_bad.any() else None,
    )


def _xs(trace: Trace, x: XAxis) -> tuple[Vector, NDArray[numpy.bool_]]:
    """Return the places on the axis, and which points have one."""
    import numpy

    everything = numpy.ones(len(trace.values), dtype=bool)
    if x == "time":
        seconds = trace.times_us / 1e6
        return seconds, (seconds > _YEAR_1) & (seconds < _YEAR_9999)
    if x == "relative":
        return (trace.times_us - trace.started_us) / 1e6, everything
    has_step = ~numpy.isnan(trace.steps)
    if has_step.any():
        return trace.steps, has_step
    # No step at all: numbered as they came.
    return numpy.argsort(numpy.argsort(trace.times_us, kind="stable")).astype(float), everything


def _smoothed(values: list[float], weight: float) -> list[float]:
    """Return the exponential moving average, corrected at its start; gaps stay gaps and do not count.

    Source: Kingma and Ba (2015), "Adam", section 3, for the correction.
    """
    if not weight:
        return values
    found, total, share = [], 0.0, 0.0
    for value in values:
        if value == value:
            total = weight * total + (1 - weight) * value
            share = weight * share + (1 - weight)
        found.append(total / share if value == value else value)
    return found


# --- groups ----------------------------------------------------------------------------------------


def _of_group(label: str, key: str, parts: Sequence[Curve], x: XAxis, notes: list[str]) -> Curve:
    import numpy

    grid = _grid(parts, x)
    table = numpy.full((len(parts), len(grid)), numpy.nan)
    for row, part in zip(table, parts, strict=True):
        xs, ys = numpy.asarray(part.xs), numpy.asarray(part.ys)
        if x == "step":
            row[numpy.searchsorted(grid, xs)] = ys
        elif len(xs):
            inside = (grid >= xs[0]) & (grid <= xs[-1])
            row[inside] = ys[numpy.searchsorted(xs, grid[inside], side="right") - 1]
    count = numpy.isfinite(table).sum(axis=0)
    shared = count >= 2
    if len(parts) == 1:
        notes.append(f"{label}: one run has {key}, so that there is no band")
        shared = count >= 1
    elif not shared.any():
        notes.append(f"{label}: no two runs have {key} at the same step. Take --x relative.")
    grid, table, count = grid[shared], table[:, shared], count[shared]
    with numpy.errstate(over="ignore", invalid="ignore"):  # a band without end is drawn to the axis's end
        mean = numpy.nansum(table, axis=0) / count
        squares = numpy.nansum((table - mean) ** 2, axis=0)
        std = numpy.sqrt(squares / numpy.maximum(count - 1, 1))
    return Curve(
        label=f"{label} (n={len(parts)})",
        key=key,
        xs=grid.tolist(),
        ys=mean.tolist(),
        low=(mean - std).tolist() if len(parts) > 1 else None,
        high=(mean + std).tolist() if len(parts) > 1 else None,
        runs=len(parts),
        points=len(grid),
        not_finite=sum(part.not_finite for part in parts),
        first_not_finite=min(
            (part.first_not_finite for part in parts if part.first_not_finite is not None), default=None
        ),
    )


def _grid(parts: Sequence[Curve], x: XAxis) -> Vector:
    import numpy

    filled = [numpy.asarray(part.xs) for part in parts if part.xs]
    if not filled:
        return numpy.zeros(0)
    if x == "step":
        return numpy.unique(numpy.concatenate(filled))
    return numpy.linspace(min(xs[0] for xs in filled), max(xs[-1] for xs in filled), _GRID)


# --- fewer points ----------------------------------------------------------------------------------


def _thinned(curve: Curve, most: int) -> Curve:
    """Keep the first, last, smallest, largest and first missing point of each stretch."""
    if len(curve.xs) <= most:
        return curve
    import numpy

    lines = [numpy.asarray(one) for one in (curve.ys, curve.raw, curve.low, curve.high) if one is not None]
    per_stretch = 2 * len(lines) + 1
    kept = {0, len(curve.xs) - 1}
    edges = numpy.linspace(0, len(curve.xs), max(2, most // per_stretch + 1)).astype(int).tolist()
    for start, end in pairwise(edges):
        for line in lines:
            part = line[start:end]
            gaps = numpy.isnan(part)
            if gaps.any():
                kept.add(start + int(gaps.argmax()))
            if not gaps.all():
                kept |= {start + int(numpy.nanargmin(part)), start + int(numpy.nanargmax(part))}
    places = sorted(kept)

    def at(values: list[float] | None) -> list[float] | None:
        return None if values is None else [values[place] for place in places]

    return msgspec.structs.replace(
        curve,
        xs=at(curve.xs),
        ys=at(curve.ys),
        raw=at(curve.raw),
        low=at(curve.low),
        high=at(curve.high),
    )


# --- notes -----------------------------------------------------------------------------------------


def _missing(key: str, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"no {key} in {', '.join(labels[:_SHOWN])}{more}"


def _not_finite(key: str, found: Sequence[Curve]) -> str:
    bad = [curve for curve in found if curve.key == key and curve.not_finite]
    if not bad:
        return ""
    told = [f"{curve.label} ({curve.not_finite}, first at {curve.first_not_finite:.6g})" for curve in bad]
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"NaN or infinite values of {key} are gaps: {', '.join(told[:_SHOWN])}{more}"

"""Which curves a report shows, and their points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from eventlog.analysis.directions import guess_mode
from eventlog.analysis.plots.curves import Curve, curves
from eventlog.analysis.reports.model import Chart, Standings
from eventlog.analysis.reports.reading import Below
from eventlog.analysis.reports.standing import is_of_other_rank
from eventlog.analysis.timings import is_timing

_SPANS_DECADES = 1000.0


def panels(
    below: Below,
    root: Path,
    standings: Standings,
    paths: Mapping[str, Path],
    *,
    most: int,
    most_points: int,
    most_curves: int,
    log_y: bool,
) -> list[Chart]:
    """Return the curves of the metric that counts, of those that were named, and of a few more.

    Raises:
        MissingExtraError: numpy is not installed.
    """
    places = standings.places[:most_curves]
    shown = [run for standing in places for run in standing.members]
    keys = _keys(below, shown, standings, most)
    if not keys:
        return []
    if standings.group_by:
        groups = {one.label: [paths[run] for run in one.members] for one in places}
        found = curves([paths[run] for run in shown], keys, root=root, groups=groups, most_points=most_points)
        names = {one.label: i for i, one in enumerate(places)}
    else:
        labels = {paths[one.place.runs[0]]: one.label for one in places}
        found = curves(list(labels), keys, root=root, labels=labels, most_points=most_points)
        names = {label: i for i, label in enumerate(labels.values())}

    def place_of(curve: Curve) -> int:
        return names[curve.label] if curve.label in names else names[curve.label.rpartition(" (n=")[0]]

    # The way out that a note names is an option of `evlog plot`.
    notes = [note.removesuffix(" Take --x relative.") for note in found.notes]
    charts = []
    for key in keys:
        panel = found.panel(key)
        charts.append(
            Chart(
                key=key,
                mode=standings.mode if key == standings.metric else guess_mode(key),
                curves=panel,
                places=[place_of(curve) for curve in panel],
                notes=[note for note in notes if f" {key}" in f" {note}"],
                is_log=log_y or (guess_mode(key) == "min" and _span(panel) >= _SPANS_DECADES),
            )
        )
    return charts


def _span(panel: Sequence[Curve]) -> float:
    """Return how many times the largest value is the smallest; 0 if not all are above zero."""
    values = [value for curve in panel for value in curve.ys if math.isfinite(value)]
    return max(values) / min(values) if values and min(values) > 0 else 0.0


def _keys(below: Below, runs: Sequence[str], standings: Standings, most: int) -> list[str]:
    """Return the metrics to draw: those that are curves, which one point is not."""
    has = {str(key): int(str(count)) for key, count in below.ask(_KEYS, runs)}
    first = [key for key in standings.metrics if key in has]
    main = standings.metric or ""

    def liking(key: str) -> tuple[bool, bool, int, str]:
        is_kin = bool(main) and key.rpartition("/")[2] == main.rpartition("/")[2]
        return not is_kin, guess_mode(key) is None, -has[key], key

    rest = [key for key in has if key not in first and not is_timing(key) and not is_of_other_rank(key)]
    return [*first, *sorted(rest, key=liking)][: max(most, len(first))]


_KEYS = """
    SELECT key, count(*) FROM summaries SEMI JOIN selected USING (project, run_id)
    GROUP BY key HAVING max(count) > 1
"""

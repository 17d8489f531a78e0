"""Runs side by side: what they were given, where they come from, what came out, and which is best."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from eventlog.analysis.comparison.compared import ComparedRun, Comparison, Improvement, MetricRow, Row
from eventlog.analysis.comparison.origins import KINDS, origins
from eventlog.analysis.directions import Mode, guess_mode
from eventlog.analysis.facts import RunFacts, load, results
from eventlog.analysis.groups import is_tie
from eventlog.analysis.naming import NoMetricError, default_metric, pick_metric
from eventlog.analysis.runs import find_run, root_path, short_labels
from eventlog.errors import EvlogError


class TooFewRunsError(EvlogError, ValueError):
    """A comparison needs two runs."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__(list(found))
        self.found = list(found)

    def __str__(self) -> str:
        what = f"only {self.found[0]} is named" if self.found else "none is named"
        return f"A comparison needs two runs or more, and {what}. `evlog list` shows the runs."


def compare(
    *runs: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    metric: str | None = None,
    mode: Mode | None = None,
    benchmark: str | None = None,
) -> Comparison:
    """Compare *runs*, each given by its id, PROJECT/ID, the beginning of an id, or its directory.

    Args:
        root: directory of all projects; default ``EVLOG_DIR`` or ``./experiments``.
        metric: that decides who wins, or the end of its name; default as for `leaderboard`.
        mode: what is better of it; default as its name says.
        benchmark: only results of it.

    Raises:
        TooFewRunsError: fewer than two different runs.
        RunNotFoundError, AmbiguousRunError: a name fits none, or several.
        UnknownMetricError, AmbiguousMetricError: *metric* or *benchmark* is of no run, or may be several.
        OSError: a log cannot be read.
    """
    where = root_path(root)
    found = list(dict.fromkeys(find_run(run, where) for run in runs))
    if len(found) < 2:
        raise TooFewRunsError([f"{run.project}/{run.run_id}" for run in found])
    return compare_facts([load(run.path) for run in found], metric=metric, mode=mode, benchmark=benchmark)


def compare_facts(
    runs: Sequence[RunFacts],
    *,
    metric: str | None = None,
    mode: Mode | None = None,
    benchmark: str | None = None,
) -> Comparison:
    """Compare runs whose logs were read already; see `compare`."""
    labels = short_labels([(run.view.project, run.view.run_id, str(run.path)) for run in runs])
    scores = dict(zip(labels, map(results, runs), strict=True))
    decisive, why_not = _decisive(list(scores.values()), metric, benchmark)
    if benchmark is not None:
        scores = {
            label: {key: value for key, value in own.items() if key.startswith(f"{benchmark}/")}
            for label, own in scores.items()
        }
    benchmarks = {evaluation.benchmark for run in runs for evaluation in run.evaluations}
    rows = _metric_rows(scores, benchmarks, decisive, mode)
    came_from = {label: origins(run) for label, run in zip(labels, runs, strict=True)}
    winner, verdict = _winner(rows[0], labels) if decisive else (None, why_not)
    return Comparison(
        runs=[
            ComparedRun(
                label=label,
                project=run.view.project,
                run_id=run.view.run_id,
                name=run.view.name,
                status=run.view.status,
            )
            for label, run in zip(labels, runs, strict=True)
        ],
        params=_rows({label: run.view.flat_params for label, run in zip(labels, runs, strict=True)}),
        lineage=[
            row
            for kind in KINDS
            for row in _rows({label: own[kind] for label, own in came_from.items() if kind in own})
        ],
        metrics=rows,
        unrecorded={label: [kind for kind in KINDS if kind not in own] for label, own in came_from.items()},
        metric=decisive,
        mode=rows[0].mode if decisive else None,
        winner=winner,
        verdict=verdict,
        improvements=_improvements(rows[0], winner) if winner is not None else [],
    )


def _decisive(
    scores: Sequence[Mapping[str, float]], metric: str | None, benchmark: str | None
) -> tuple[str | None, str]:
    """Return the metric that decides, or None and why there is none."""
    if metric is not None:
        return pick_metric(metric, {key for own in scores for key in own}, benchmark=benchmark), ""
    try:
        return default_metric(scores, benchmark=benchmark), ""
    except NoMetricError as error:
        if benchmark is not None and not error.there:
            raise
        return (
            None,
            "no metric is the one that counts: name it with --metric"
            if error.there
            else "there are no metrics",
        )


def _metric_rows(
    scores: Mapping[str, Mapping[str, float]], benchmarks: set[str], decisive: str | None, mode: Mode | None
) -> list[MetricRow]:
    """Return the results: the decisive one first, then those of its benchmark, then the rest by name."""
    keys = {key for own in scores.values() for key in own}
    of = {key: max((b for b in benchmarks if key.startswith(f"{b}/")), key=len, default=None) for key in keys}
    first = of.get(decisive) if decisive is not None else None

    logged = {key: i for i, key in reversed(list(enumerate(key for own in scores.values() for key in own)))}

    def place(key: str) -> tuple[bool, bool, str, bool, int, str]:
        # Those of a benchmark as it gave them, the others by name.
        in_order = logged[key] if of[key] is not None else 0
        return (of[key] != first, of[key] is None, of[key] or "", key != decisive, in_order, key)

    rows = []
    for key in sorted(keys, key=place):
        values = {label: own[key] for label, own in scores.items() if key in own}
        known = (
            (mode if key == decisive and mode else None)
            or guess_mode(key)
            or ("max" if key == decisive else None)
        )
        rows.append(
            MetricRow(
                key=key, benchmark=of[key], mode=known, values=values, best=_best(values, known, len(scores))
            )
        )
    return rows


def _best(values: Mapping[str, float], mode: Mode | None, runs: int) -> list[str]:
    real = {label: value for label, value in values.items() if value == value}
    if mode is None or not real or len(values) < 2:
        return []
    best = max(real.values()) if mode == "max" else min(real.values())
    found = [label for label, value in real.items() if is_tie(value, best)]
    return [] if len(found) == runs else found


def _winner(row: MetricRow, labels: Sequence[str]) -> tuple[str | None, str]:
    if len(row.best) == 1:
        better = "largest" if row.mode == "max" else "smallest"
        return row.best[0], f"it has the {better} {row.key}"
    if not any(value == value for value in row.values.values()):
        return None, f"{row.key} is NaN"
    if len(row.values) == 1:
        return None, f"only {next(iter(row.values))} has {row.key}"
    tied = row.best or labels
    return None, f"{row.key} is the same in {', '.join(tied[:5])}{'' if len(tied) <= 5 else ', …'}"


def _improvements(row: MetricRow, winner: str) -> list[Improvement]:
    """Return the winner's distance from the others, the nearest first."""
    best = row.values[winner]
    mode: Mode = row.mode or "max"
    others = [label for label, value in row.values.items() if label != winner and value == value]
    others.sort(key=lambda label: row.values[label], reverse=mode == "max")

    return [
        Improvement(
            over=label,
            difference=best - row.values[label],
            relative=(best - row.values[label]) / abs(row.values[label]) if row.values[label] else None,
        )
        for label in others
    ]


def _rows(values: Mapping[str, Mapping[str, object]]) -> list[Row]:
    """Return a row for each name that any run has; those runs are compared that *values* has."""
    names = sorted({name for own in values.values() for name in own})
    return [
        Row(
            key=name,
            values={label: own[name] for label, own in values.items() if name in own},
            differs=len(
                {
                    json.dumps(own[name], sort_keys=True, default=str) if name in own else ""
                    for own in values.values()
                }
            )
            > 1,
        )
        for name in names
    ]

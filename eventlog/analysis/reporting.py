"""One page about runs: who is best and how sure that is, curves, notes, failures, and all that they lack.

The same logs give the same report. What is shown of each kind is bounded; what is left out is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eventlog.analysis.directions import Mode
from eventlog.analysis.groups import text_of, varying
from eventlog.analysis.overview import connected
from eventlog.analysis.reports.images import images
from eventlog.analysis.reports.markdown import to_markdown
from eventlog.analysis.reports.model import Chart, Report, RunRow, Standings, Varied, listed
from eventlog.analysis.reports.page import to_html
from eventlog.analysis.reports.panels import panels
from eventlog.analysis.reports.reading import Below, Known, last_line
from eventlog.analysis.reports.samples import benchmarks
from eventlog.analysis.reports.standing import standings
from eventlog.analysis.reports.summary import about, notes
from eventlog.analysis.reports.sureness import verdict
from eventlog.analysis.runs import NoRunsError, find_run, root_path
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import EvlogError
from eventlog.storage.layout import RunPath

__all__ = ["Limits", "Report", "report", "to_html", "to_markdown"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each kind a report shows; the rest is counted."""

    runs: int = 200
    places: int = 50
    curves: int = 12
    charts: int = 6
    points: int = 400
    images: int = 12
    benchmarks: int = 60
    samples: int = 5
    notes: int = 40
    params: int = 40


def report(
    root: str | os.PathLike[str] | None = None,
    runs: Sequence[str | os.PathLike[str]] | None = None,
    *,
    experiment: str | None = None,
    project: str | None = None,
    where: str | None = None,
    status: Sequence[str] = (),
    metrics: Sequence[str] = (),
    mode: Mode | None = None,
    group_by: Sequence[str] = (),
    title: str | None = None,
    date: str | None = None,
    log_y: bool = False,
    limits: Limits | None = None,
) -> Report:
    """Return what there is to say of runs below *root* (default ``EVLOG_DIR`` or ``./experiments``).

    Args:
        runs: ids, PROJECT/ID, beginnings of ids, or directories, all below one root; in the place of
            *experiment*, *project*, *where* and *status*.
        where: a condition in SQL on the table `runs`.
        metrics: the first one ranks the runs, the others are shown too; default as for `leaderboard`, or a
            guess, and then the report says so.
        mode: what is better of the first metric; default as its name says.
        group_by: params that make a group; default all that vary but the seed, if there are several seeds.
        date: shown as it is. Without one the report has no time but those of the runs.
        log_y: show logarithmic axes first.

    Raises:
        NoRunsError: nothing fits.
        RunNotFoundError, AmbiguousRunError: *runs* name none, or several.
        StatisticsError: *runs* lie below different roots.
        UnknownMetricError, AmbiguousMetricError, UnknownParamError: no run has it, or it may be several.
        OSError: the runs cannot be read.
    """
    limits = limits or Limits()
    where_from, only = _named(root_path(root), runs)
    asked = {"project": project, "experiment": experiment, "status": " or ".join(status), "where": where}
    said = (
        ""
        if only is not None
        else " and ".join(f"{name} {value!r}" for name, value in asked.items() if value)
    )
    with connected(where_from) as connection:
        ids = None if only is None else [(run.project, run.run_id) for run in only]
        below = Below(
            connection, only=ids, project=project, experiment=experiment, where=where, status=status
        )
        if not below.runs:
            raise NoRunsError(str(where_from), said)
        ranked = standings(
            [run.scores for run in below.runs],
            metrics=metrics,
            mode=mode,
            group_by=group_by,
            most=limits.places,
        )
        return _Writer(below, where_from, ranked, limits).report(title, said, date, log_y=log_y)


def _named(root: Path, runs: Sequence[str | os.PathLike[str]] | None) -> tuple[Path, list[RunPath] | None]:
    """Return the root and the runs that were named; None if none were."""
    if runs is None:
        return root, None
    found = list(dict.fromkeys(find_run(run, root) for run in runs))
    if not found:
        raise NoRunsError(str(root))
    roots = {run.path.absolute().parents[1] for run in found}
    if len(roots) > 1:
        raise StatisticsError(
            f"These runs lie below {len(roots)} directories: {listed(sorted(map(str, roots)))}. Report on "
            "those of one at a time, or copy them together with: evlog sync --to mirror"
        )
    return (root if roots == {root.absolute()} else roots.pop()), found


class _Writer:
    """Puts a report together."""

    def __init__(self, below: Below, root: Path, ranked: Standings, limits: Limits) -> None:
        self._below, self._root, self._ranked, self._limits = below, root, ranked, limits
        self._runs = below.runs
        self._paths = {run.label: run.path for run in self._runs}
        self._scores = {run.label: run.scores for run in self._runs}
        self._problems = list(below.problems)
        self._vary = varying([run.scores for run in self._runs])

    def report(self, title: str | None, asked: str, date: str | None, *, log_y: bool) -> Report:
        limits, below = self._limits, self._below
        rows = self._rows()
        troubled = [row for row in rows if row.status not in {"finished", "running"}]
        best_first = list(
            dict.fromkeys([*(r for p in self._ranked.places for r in p.place.runs), *self._scores])
        )
        pictures, more_pictures = images(below, best_first[: limits.runs], self._paths, most=limits.images)
        said, more_said = notes(self._runs, limits.notes)
        charts = self._charts(log_y=log_y)
        evaluated, more_evaluated = benchmarks(
            below,
            self._ranked.places,
            self._scores,
            most=limits.benchmarks,
            most_rows=limits.places,
            most_samples=limits.samples,
        )
        return Report(
            about=about(below, title, asked, date),
            standings=self._ranked,
            verdict=verdict(self._ranked, self._scores),
            charts=charts,
            varied=self._varied(),
            more_varied=max(0, len(self._vary) - limits.params),
            said=said,
            more_said=more_said,
            benchmarks=evaluated,
            more_benchmarks=more_evaluated,
            images=pictures,
            more_images=more_pictures,
            troubled=troubled[: limits.runs],
            more_troubled=max(0, len(troubled) - limits.runs),
            damaged=below.damaged(),
            runs=rows[: limits.runs],
            more_runs=max(0, len(rows) - limits.runs),
            paths=[str(run.path) for run in self._runs],
            audit=None,
            problems=self._problems,
        )

    def _charts(self, *, log_y: bool) -> list[Chart]:
        """Return the curves; without numpy there are none, and the report says so."""
        try:
            return panels(
                self._below,
                self._root,
                self._ranked,
                self._paths,
                most=self._limits.charts,
                most_points=self._limits.points,
                most_curves=self._limits.curves,
                log_y=log_y,
            )
        except (EvlogError, OSError) as error:
            self._problems.append(f"No curves: {error}")
            return []

    def _rows(self) -> list[RunRow]:
        """Return all runs, as they are ranked; those without a place come last."""
        place = {run: i for i, one in enumerate(self._ranked.places) for run in one.members}
        ended = {run.label for run in self._runs if run.scores.status not in {"finished", "running"}}
        words = self._below.last_words(ended)
        rows = [self._row(run, place.get(run.label), words.get(run.label, "")) for run in self._runs]
        return sorted(rows, key=lambda row: len(place) if row.place is None else row.place)

    def _row(self, run: Known, place: int | None, last_words: str) -> RunRow:
        scores, facts = run.scores, run.facts
        return RunRow(
            label=run.label,
            name=scores.name,
            path=scores.path,
            status=scores.status,
            started_at=facts.started_at,
            duration_s=facts.duration_s,
            seed="" if scores.seed is None else text_of(scores.seed),
            params={
                key: text_of(scores.params[key])
                for key in self._vary[: self._limits.params]
                if key in scores.params
            },
            result=scores.results.get(self._ranked.metric) if self._ranked.metric else None,
            place=place,
            error=_error(run, last_words),
            git_commit=facts.git_commit,
            energy_kwh=facts.energy_kwh,
            cost=facts.cost,
        )

    def _varied(self) -> list[Varied]:
        found = []
        for key in self._vary[: self._limits.params]:
            count = Counter(
                text_of(run.scores.params[key]) if key in run.scores.params else "(not set)"
                for run in self._runs
            )
            values = list(count.items())
            found.append(Varied(key=key, values=values[:12], left_out=max(0, len(values) - 12)))
        return found


def _error(run: Known, last_words: str) -> str:
    """Return the last line of what ended a run."""
    if run.scores.status in {"finished", "running"}:
        return ""
    facts = run.facts
    message = last_line(facts.error_message or "")
    if facts.error_type or message:
        return ": ".join(part for part in (facts.error_type, message) if part)
    if last_words:
        return last_words
    if facts.exit_code is not None:
        return f"exit code {facts.exit_code}"
    return "no end was logged" if run.scores.status == "crashed" else ""

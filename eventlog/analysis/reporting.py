"""One page about runs: who is best and how sure that is, curves, notes, failures, and all that they lack.

The same logs give the same report. What is shown of each kind is bounded; what is left out is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from eventlog.analysis.directions import Mode
from eventlog.analysis.groups import text_of, varying
from eventlog.analysis.overview import connected
from eventlog.analysis.reports.images import images
from eventlog.analysis.reports.markdown import to_markdown
from eventlog.analysis.reports.model import About, Report, RunRow, Said, Standings, Varied, counted, listed
from eventlog.analysis.reports.page import to_html
from eventlog.analysis.reports.panels import panels
from eventlog.analysis.reports.reading import Below, Known, last_line
from eventlog.analysis.reports.samples import benchmarks
from eventlog.analysis.reports.standing import standings
from eventlog.analysis.reports.sureness import verdict
from eventlog.analysis.runs import NoRunsError, find_run, root_path
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import EvlogError
from eventlog.storage.layout import RunPath

__all__ = ["Limits", "Report", "report", "to_html", "to_markdown"]

DECISION = "Decision: "
"""How the notes of `evlog decide` begin."""

R = TypeVar("R")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each kind a report shows; the rest is counted."""

    runs: int = 200
    places: int = 50
    curves: int = 12
    charts: int = 6
    points: int = 400
    images: int = 12
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
            f"These runs lie below {len(roots)} directories: {listed(sorted(map(str, roots)))}. Report on those "
            "of one at a time, or copy them together with: evlog sync --to mirror"
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
        charts = self._try(
            [],
            lambda: panels(
                below,
                self._root,
                self._ranked,
                self._paths,
                most=limits.charts,
                most_points=limits.points,
                most_curves=limits.curves,
                log_y=log_y,
            ),
        )
        return Report(
            about=self._about(title, asked, date),
            standings=self._ranked,
            verdict=verdict(self._ranked, self._scores),
            charts=charts,
            varied=self._varied(),
            said=self._said(),
            benchmarks=benchmarks(
                below, self._ranked.places, self._scores, most_rows=limits.places, most_samples=limits.samples
            ),
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

    def _try(self, otherwise: R, make: Callable[[], R]) -> R:
        """Return what *make* does; an optional package that is missing costs its part of the report."""
        try:
            return make()
        except (EvlogError, OSError) as error:
            self._problems.append(f"No curves: {error}")
            return otherwise

    def _about(self, title: str | None, asked: str, date: str | None) -> About:
        facts = [run.facts for run in self._runs]
        scores = [run.scores for run in self._runs]
        experiments = sorted({run.experiment for run in scores if run.experiment})
        projects = sorted({run.project for run in scores})
        energy = [one.energy_kwh for one in facts if one.energy_kwh is not None]
        costs = [one.cost for one in facts if one.cost is not None]
        hours = [one.device_hours for one in facts if one.device_hours is not None]
        name = listed(experiments, 3) or f"{counted(len(scores), 'run')} of {listed(projects, 3)}"
        tags = Counter(
            key if value is None else f"{key}={value}"
            for run in scores
            for key, value in run.tags.items()
            if key != "decision"
        )
        commits = Counter(one.git_commit for one in facts if one.git_commit)
        return About(
            title=title or name,
            asked=asked,
            experiments=experiments,
            projects=projects,
            runs=len(scores),
            statuses=dict(sorted(Counter(run.status for run in scores).items())),
            first_started_at=min(
                (one.started_at for one in facts if one.started_at is not None), default=None
            ),
            last_event_at=self._below.last_event_at(),
            duration_s=sum(one.duration_s or 0.0 for one in facts),
            commits=dict(sorted(commits.items(), key=lambda pair: (-pair[1], pair[0]))),
            changed_runs=len(self._below.changed()),
            hosts=sorted({one.host for one in facts if one.host}),
            datasets=self._below.datasets(),
            tags=dict(sorted(tags.items(), key=lambda pair: (-pair[1], pair[0]))),
            device_hours=sum(hours) if hours else None,
            energy_kwh=sum(energy) if energy else None,
            measured_runs=len(energy),
            cost=sum(costs) if costs else None,
            currency=next((one.currency for one in facts if one.currency), None),
            priced_runs=len(costs),
            date=date,
        )

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

    def _said(self) -> list[Said]:
        """Return the notes, each once, decisions first."""
        by_text: dict[str, list[Known]] = {}
        for run in self._runs:
            for text in _notes(run.facts.notes):
                members = by_text.setdefault(text, [])
                if run not in members:
                    members.append(run)
        said = [
            Said(
                text=text,
                runs=[run.label for run in members],
                is_decision=text.startswith(DECISION),
                stands=any(_stands(run, text) for run in members),
            )
            for text, members in by_text.items()
        ]
        said.sort(key=lambda one: (not one.is_decision, not one.stands))
        return said[: self._limits.notes]


def _notes(text: str) -> list[str]:
    """Return the notes of a run; those of `evlog decide` are lines of their own."""
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith(DECISION) or not found or found[-1].startswith(DECISION):
            found.append(line)
        else:
            found[-1] += f"\n{line}"
    return [note.strip() for note in found if note.strip()]


def _stands(run: Known, text: str) -> bool:
    """Tell whether *text* is the decision that the run's tag stands for."""
    rule = run.scores.tags.get("decision")
    decisions = [note for note in _notes(run.facts.notes) if note.startswith(DECISION)]
    return rule is not None and text.startswith(DECISION) and decisions[-1:] == [text]


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

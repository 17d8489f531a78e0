"""What a report says in words and cells, the same in HTML and in Markdown."""

from __future__ import annotations

import math

from eventlog.analysis.groups import text_of
from eventlog.analysis.plots.curves import Curve
from eventlog.analysis.reports.markup import duration, moment
from eventlog.analysis.reports.model import About, Chart, Report, Standing, Standings, Varied, counted, listed
from eventlog.analysis.shown import mean_and_std, number

NO_RUNS_ARE_TOLD_APART = "No param but the seed differs between these runs."


def best_line(report: Report) -> str:
    """Return who is best, or why nobody is."""
    standings = report.standings
    if standings.metric is None:
        return standings.why
    ranked = [one for one in standings.places if one.place.rank == 1]
    if not ranked:
        return f"No run has a number of {standings.metric}."
    better = "largest" if standings.mode == "max" else "smallest"
    if len(standings.places) == 1:
        one = ranked[0]
        return f"{standings.metric}: {score(one, standings.metric)} ({_runs_of(one)})"
    if len(ranked) > 1:
        names, value = listed([one.label for one in ranked], 3), score(ranked[0], standings.metric)
        return f"{names} share the {better} {standings.metric}: {value}"
    one = ranked[0]
    of = f" ({_runs_of(one)})" if standings.group_by else ""
    return f"{one.label} has the {better} {standings.metric}: {score(one, standings.metric)}{of}"


def _runs_of(one: Standing) -> str:
    return counted(len(one.place.runs), "run")


def score(one: Standing, metric: str) -> str:
    """Return a value, or mean and deviation."""
    return mean_and_std(one.place.scores.get(metric))


def verdict_lines(report: Report) -> list[str]:
    """Return whether the best is better by more than chance, and what to know before believing it."""
    verdict = report.verdict
    if len(report.standings.places) < 2:
        return []
    if verdict.reason:
        return [f"Best and second were not tested: {verdict.reason.rstrip('.')}."]
    return [verdict.sentence, *(f"Note: {warning}." for warning in verdict.warnings)]


def facts(about: About) -> list[tuple[str, str, str]]:
    """Return name, value and small print of what the report is about."""
    found = [
        ("Runs", str(about.runs), ", ".join(f"{count} {status}" for status, count in about.statuses.items())),
        (
            "Time",
            moment(about.first_started_at),
            f"to {moment(about.last_event_at)}; {duration(about.duration_s)} of runs in all",
        ),
        ("Code", *_code(about)),
    ]
    if about.datasets:
        found.append(("Data", listed(about.datasets, 3), ""))
    if about.hosts:
        hours = "" if about.device_hours is None else f"{about.device_hours:.3g} device hours"
        found.append(("Machines", listed(about.hosts, 3), hours))
    if about.energy_kwh is not None:
        found.append(
            ("Energy", f"{about.energy_kwh:.3g} kWh", f"measured by {counted(about.measured_runs, 'run')}")
        )
    if about.cost is not None:
        currency = f" {about.currency}" if about.currency else ""
        known = "" if about.priced_runs == about.runs else f"of {about.priced_runs} of {about.runs} runs"
        found.append(("Cost", f"{about.cost:.2f}{currency}", known))
    return found


def _code(about: About) -> tuple[str, str]:
    if not about.commits:
        return "not recorded", ""
    shown = listed([commit[:10] for commit in about.commits], 3)
    known = sum(about.commits.values())
    notes = [] if len(about.commits) == 1 else [f"{len(about.commits)} commits"]
    notes += [f"{counted(about.changed_runs, 'run')} with uncommitted changes"] if about.changed_runs else []
    notes += [f"{about.runs - known} without a commit"] if known < about.runs else []
    return shown, ", ".join(notes)


def table_title(standings: Standings) -> str:
    """Return what the places are ranked by, and what a place is."""
    if standings.metric is None:
        return standings.why
    better = "larger" if standings.mode == "max" else "smaller"
    of = (
        f" Mean ± standard deviation over runs that agree on {', '.join(standings.group_by)}."
        if standings.group_by
        else ""
    )
    return f"By {standings.metric}; {better} is better.{standings.why}{of}"


def place_columns(standings: Standings) -> list[str]:
    """Return the heads of the places."""
    who = list(standings.group_by) or ["run"]
    tail = ["runs", "seeds"] if standings.group_by else ["status"]
    return ["rank", *who, *standings.metrics, *tail]


def place_cells(one: Standing, standings: Standings) -> list[str]:
    """Return the texts of a place, as many as there are columns."""
    place = one.place
    scores = [score(one, key) for key in standings.metrics]
    if standings.group_by:
        values = [text_of(value) for value in place.group.values()]
        return [place.place, *values, *scores, str(len(place.runs)), str(place.seeds or "-")]
    return [place.place, one.label, *scores, place.status or ""]


def curve_cells(curve: Curve, chart: Chart) -> list[str]:
    """Return first, best and last value of a curve, and where the best one is."""
    real = [(y, x) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
    if not real:
        return ["-", "-", "-"]
    best = (
        None
        if chart.mode is None
        else (max(real, key=lambda one: one[0]) if chart.mode == "max" else min(real, key=lambda one: one[0]))
    )
    last = number(real[-1][0])
    if curve.low is not None and curve.high is not None:
        std = (curve.high[curve.xs.index(real[-1][1])] - curve.low[curve.xs.index(real[-1][1])]) / 2
        last += f" ± {std:.2g}"
    return [number(real[0][0]), "-" if best is None else f"{number(best[0])} at {best[1]:g}", last]


def varied_cells(one: Varied) -> tuple[str, list[str]]:
    """Return a param and its values, each with the number of runs."""
    more = [f"{one.left_out} more values"] if one.left_out else []
    return one.key, [f"{value} × {count}" for value, count in one.values] + more


def audit_summary(report: Report) -> str:
    """Return an audit in one line."""
    audit = report.audit
    assert audit is not None
    fails, warns = (sum(line.level == level for line in audit.lines) for level in ("fail", "warn"))
    if not audit.lines:
        return f"{counted(audit.runs, 'run')} looked at: nothing is missing. {audit.note}".strip()
    return (
        f"{counted(audit.runs, 'run')} looked at: {counted(fails, 'check')} failed, "
        f"{counted(warns, 'warning')}. {audit.note}".strip()
    )

"""A report in GitHub's Markdown: the same as the page, with lines of blocks in the place of charts."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.analysis.reports import telling
from eventlog.analysis.reports.charts import sparkline
from eventlog.analysis.reports.markup import duration, moment
from eventlog.analysis.reports.model import Benchmark, Report, counted, listed
from eventlog.analysis.shown import markdown_table, markdown_text, mean_and_std, number
from eventlog.errors import printable


def to_markdown(report: Report) -> str:
    """Return the report; it ends with a newline."""
    about = report.about
    head = [f"# {_text(about.title)}"]
    head += [_text(f"Chosen by {about.asked}")] if about.asked else []
    head += [_text(about.date)] if about.date else []
    head += [f"**Problem:** {_text(problem)}" for problem in report.problems]
    head.append(_table(("", "", ""), telling.facts(about)))
    head.append(f"**{_text(telling.best_line(report))}**")
    head += [_text(line) for line in telling.verdict_lines(report)] if report.standings.metric else []
    parts = [
        ("Leaderboard", _ranking(report)),
        ("Decisions and notes", _said(report)),
        ("Curves", _curves(report)),
        ("What differs", _varied(report)),
        ("Evaluations", _evaluations(report)),
        ("Pictures", _pictures(report)),
        ("Runs that did not finish", _troubled(report)),
        (
            "Damaged logs",
            [_table(("run", "what"), [(one.run, one.what) for one in report.damaged[:50]])]
            if report.damaged
            else [],
        ),
        ("Audit", _audit(report)),
        ("All runs", _runs(report)),
    ]
    blocks = [*head]
    for heading, content in parts:
        if content:
            blocks += [f"## {heading}", *content]
    # GitHub makes links out of bare addresses, and what logs say shall be none.
    return "\n\n".join(blocks).replace("://", "&#58;//").replace("www.", "www&#46;") + "\n"


def _text(value: str) -> str:
    return markdown_text(printable(" ".join(value.split())))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    cells = [[printable(" ".join(cell.split())) for cell in row] for row in rows]
    return markdown_table(
        [printable(column) for column in columns], cells, right=[printable(one) for one in right]
    )


def _ranking(report: Report) -> list[str]:
    standings = report.standings
    if standings.metric is None:
        return []
    rows = [telling.place_cells(one, standings) for one in standings.places]
    foot = list(standings.notes)
    if standings.left_out:
        foot.append(f"{standings.left_out} more below these places")
    return [
        _text(telling.table_title(standings)),
        _table(telling.place_columns(standings), rows, (*standings.metrics, "rank", "runs", "seeds")),
        *map(_text, foot),
    ]


def _said(report: Report) -> list[str]:
    found = []
    for said in report.said:
        state = " (no longer stands)" if said.is_decision and not said.stands else ""
        who = "all runs" if len(said.runs) == report.about.runs > 1 else listed(said.runs)
        quoted = [f"> {_text(line)}" for line in said.text.splitlines() if line.strip()]
        found.append("  \n".join([*quoted, f"> — {_text(who)}{state}"]))
    more = [f"{counted(report.more_said, 'note')} more left out"] if report.more_said else []
    return [*found, *more]


def _curves(report: Report) -> list[str]:
    rows = [
        [chart.key, curve.label, sparkline(curve), *telling.curve_cells(curve, chart)]
        for chart in report.charts
        for curve in chart.curves
    ]
    notes = list(dict.fromkeys(note for chart in report.charts for note in chart.notes))
    if not rows:
        return []
    columns = ("metric", "curve", "course", "first", "best", "last")
    return [_table(columns, rows, ("first", "best", "last")), *map(_text, notes)]


def _varied(report: Report) -> list[str]:
    if not report.varied:
        return [telling.NO_RUNS_ARE_TOLD_APART] if report.about.runs > 1 else []
    rows = [(key, ", ".join(values)) for key, values in map(telling.varied_cells, report.varied)]
    more = [f"{counted(report.more_varied, 'param')} more left out"] if report.more_varied else []
    return [_table(("param", "values × runs"), rows), *more]


def _evaluations(report: Report) -> list[str]:
    found = [line for one in report.benchmarks for line in _benchmark(one)]
    more = f"{counted(report.more_benchmarks, 'benchmark')} more left out"
    return [*found, more] if report.more_benchmarks else found


def _benchmark(one: Benchmark) -> list[str]:
    found = [f"### {_text(one.name)}"]
    if one.rows:
        rows = [[label, *(mean_and_std(cell) for cell in cells)] for label, cells in one.rows]
        found.append(_table(("", *one.metrics), rows, one.metrics))
    if one.run is not None and one.samples:
        found.append(_text(f"{one.wrong} of {counted(one.samples, 'sample')} of {one.run} are wrong."))
    if one.shown:
        samples = [(str(each.index), each.input, each.target, each.prediction) for each in one.shown]
        found.append(_table(("index", "input", "target", "prediction"), samples, ("index",)))
    return found


def _pictures(report: Report) -> list[str]:
    if not report.images:
        return []
    rows = [
        (image.caption or image.name, image.run, "-" if image.step is None else str(image.step))
        for image in report.images
    ]
    return [_table(("picture", "run", "step"), rows, ("step",)), "A report in HTML shows them."]


def _troubled(report: Report) -> list[str]:
    if not report.troubled:
        return []
    rows = [(row.label, row.status, row.error, moment(row.started_at)) for row in report.troubled]
    more = [f"{counted(report.more_troubled, 'run')} more left out"] if report.more_troubled else []
    return [_table(("run", "status", "last words", "started"), rows), *more]


def _audit(report: Report) -> list[str]:
    if report.audit is None:
        return []
    rows = [(line.level, line.check, str(line.runs), line.text, line.mend) for line in report.audit.lines]
    table = [_table(("level", "check", "runs", "seen", "how to mend it"), rows, ("runs",))] if rows else []
    return [_text(telling.audit_summary(report)), *table]


def _runs(report: Report) -> list[str]:
    params = [one.key for one in report.varied]
    metric = report.standings.metric
    columns = ["run", "status", *params, "seed", *([metric] if metric else []), "started", "duration"]
    rows = [
        [
            row.label,
            row.status,
            *(row.params.get(key, "-") for key in params),
            row.seed or "-",
            *([number(row.result)] if metric else []),
            moment(row.started_at),
            duration(row.duration_s),
        ]
        for row in report.runs
    ]
    more = [f"{counted(report.more_runs, 'run')} more left out"] if report.more_runs else []
    return [_table(columns, rows, (metric or "", "duration")), *more]

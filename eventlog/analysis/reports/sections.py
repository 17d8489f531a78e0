"""The sections of a page that are tables, texts and pictures; one that has nothing to say is empty."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from eventlog.analysis.reports import telling
from eventlog.analysis.reports.charts import strip
from eventlog.analysis.reports.markup import (
    Cell,
    Markup,
    duration,
    join,
    lines,
    moment,
    name,
    table,
    tag,
    text,
)
from eventlog.analysis.reports.model import Benchmark, Image, Report, Standing, counted, listed
from eventlog.analysis.reports.sections_curves import drawn_places, marked
from eventlog.analysis.shown import mean_and_std, number


def ranking(report: Report) -> Markup:
    """Return the places with their values as dots."""
    standings = report.standings
    if standings.metric is None:
        return Markup("")
    shown = [value for one in standings.places for value in one.values]
    shown = [value for value in shown if math.isfinite(value)]
    columns = telling.place_columns(standings)
    at = len(columns) - (2 if standings.group_by else 1)
    has_strips = len(standings.places) > 1 and bool(shown)
    drawn, rows = drawn_places(report), []
    for i, one in enumerate(standings.places):
        cells: list[Cell | str] = list(_place_cells(report, one, i, drawn))
        if has_strips:
            cells.insert(at, Cell(strip(one.values, one.place.scores.get(standings.metric), shown, i)))
        rows.append(cells)
    if has_strips:
        columns = [*columns[:at], "values", *columns[at:]]
    numbers = ("rank", *standings.metrics, "runs", "seeds")
    foot = [*standings.notes]
    if standings.left_out:
        foot.append(f"{standings.left_out} more below these places")
    return join(
        [
            tag("p", telling.table_title(standings), of="note"),
            table(columns, rows, numbers=numbers),
            *(tag("p", line, of="note") for line in foot),
        ]
    )


def _place_cells(report: Report, one: Standing, i: int, drawn: Sequence[int]) -> list[Cell]:
    standings = report.standings
    texts = telling.place_cells(one, standings)
    first = 1 + (len(standings.group_by) or 1)
    cells = [Cell(texts[0], value=float(one.place.rank or 1e9), is_number=True)]
    cells.append(Cell(marked(i, texts[1]) if i in drawn else name(texts[1])))
    cells += [Cell(value) for value in texts[2:first]]
    for key, value in zip(standings.metrics, texts[first:], strict=False):
        spread = one.place.scores.get(key)
        cells.append(Cell(value, value=None if spread is None else spread.mean, is_number=True))
    rest = texts[first + len(standings.metrics) :]
    if not standings.group_by:
        return [*cells, Cell(_status(rest[0]))]
    return [*cells, *(Cell(value, is_number=True) for value in rest)]


def _status(status: str) -> Markup:
    known = status if status in {"running", "finished", "failed", "killed", "crashed"} else "other"
    return tag("span", status, of=f"status {known}")


def said(report: Report) -> Markup:
    """Return decisions and notes."""

    def one(said_text: str, runs: Sequence[str], is_decision: bool, stands: bool) -> Markup:
        state = "" if not is_decision or stands else "No longer stands. "
        total = report.about.runs
        who = "all runs" if len(runs) == total and total > 1 else listed(runs)
        of = "said decision" if is_decision else "said"
        return Markup(f'<div class="{of}">{lines(said_text)}{tag("p", state + who, of="note")}</div>')

    shown = join(one(note.text, note.runs, note.is_decision, note.stands) for note in report.said)
    more = (
        tag("p", f"{counted(report.more_said, 'note')} more left out", of="note") if report.more_said else ""
    )
    return join([shown, more])


def varied(report: Report) -> Markup:
    """Return the params that are not the same in all runs."""
    if not report.varied:
        return tag("p", telling.NO_RUNS_ARE_TOLD_APART, of="note") if report.about.runs > 1 else Markup("")
    rows: list[list[Cell | str]] = []
    for one in report.varied:
        key, values = telling.varied_cells(one)
        chips = join(tag("span", value) for value in values)
        rows.append([Cell(tag("code", key)), Cell(Markup(f'<div class="chips">{chips}</div>'))])
    more = f"{counted(report.more_varied, 'param')} more left out"
    left_out = tag("p", more, of="note") if report.more_varied else Markup("")
    return join([table(["param", "values × runs"], rows), left_out])


def evaluations(report: Report) -> Markup:
    """Return the results of benchmarks, and samples that are wrong."""
    more = f"{counted(report.more_benchmarks, 'benchmark')} more left out"
    left_out = tag("p", more, of="note") if report.more_benchmarks else Markup("")
    return join([*map(_benchmark, report.benchmarks), left_out])


def _benchmark(one: Benchmark) -> Markup:
    parts = [tag("h3", one.name)]
    if one.rows:
        rows = [
            [
                Cell(name(label)),
                *(
                    Cell(mean_and_std(cell), value=cell.mean if cell else None, is_number=True)
                    for cell in cells
                ),
            ]
            for label, cells in one.rows
        ]
        parts.append(table(["", *one.metrics], rows, numbers=one.metrics))
    if one.left_out:
        parts.append(tag("p", f"{one.left_out} more are left out", of="note"))
    if one.run is not None and one.samples:
        parts.append(
            tag("p", f"{one.wrong} of {counted(one.samples, 'sample')} of {one.run} are wrong.", of="note")
        )
    if one.shown:
        head = f"The first {len(one.shown)} of them" if one.wrong > len(one.shown) else "Wrong samples"
        wrong = [
            [
                Cell(str(sample.index), value=float(sample.index)),
                *(Cell(text(cell, 500)) for cell in (sample.input, sample.target, sample.prediction)),
            ]
            for sample in one.shown
        ]
        shown = table(["index", "input", "target", "prediction"], wrong, numbers=("index",))
        parts.append(Markup(f"<details open><summary>{text(head)}</summary>{shown}</details>"))
    return join(parts)


def pictures(report: Report) -> Markup:
    """Return the pictures."""
    if not report.images:
        return Markup("")
    figures = join(map(_figure, report.images))
    more = f"{counted(report.more_images, 'picture')} more left out: too many, too large, or no PNG."
    note = tag("p", more, of="note") if report.more_images else ""
    return Markup(f'<div class="pictures">{figures}</div>{note}')


def _figure(image: Image) -> Markup:
    caption = text(image.caption or image.name)
    of = image.run if image.step is None else f"{image.run}, step {image.step}"
    data = base64.b64encode(image.data).decode()
    return Markup(
        f'<figure><img alt="{caption}" width="{image.width}" height="{image.height}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}<br>{tag('span', of, of='soft')}</figcaption></figure>"
    )


def troubled(report: Report) -> Markup:
    """Return the runs that failed, were killed or crashed."""
    if not report.troubled:
        return Markup("")
    rows: list[list[Cell | str]] = [
        [
            Cell(name(row.label)),
            Cell(_status(row.status)),
            Cell(tag("span", row.error, of="error")),
            moment(row.started_at),
            Cell(duration(row.duration_s), value=row.duration_s or 0.0),
        ]
        for row in report.troubled
    ]
    more = f"{counted(report.more_troubled, 'run')} more left out"
    return join(
        [
            table(["run", "status", "last words", "started", "duration"], rows, numbers=("duration",)),
            tag("p", more, of="note") if report.more_troubled else Markup(""),
        ]
    )


def damaged(report: Report) -> Markup:
    """Return what is wrong with the logs."""
    if not report.damaged:
        return Markup("")
    shown = report.damaged[:50]
    more = f"{len(report.damaged) - 50} more findings. " if len(report.damaged) > 50 else ""
    return join(
        [
            table(["run", "what"], [[Cell(name(one.run)), one.what] for one in shown]),
            tag(
                "p",
                f"{more}Everything else of these runs counts. evlog verify says where the damage is.",
                of="note",
            ),
        ]
    )


def audit(report: Report) -> Markup:
    """Return what an audit says."""
    audit = report.audit
    if audit is None:
        return Markup("")
    rows: list[list[Cell | str]] = [
        [
            Cell(tag("span", line.level, of=f"status {line.level}")),
            Cell(tag("code", line.check)),
            Cell(str(line.runs), value=float(line.runs)),
            line.text,
            line.mend,
        ]
        for line in audit.lines
    ]
    found = (
        table(["level", "check", "runs", "seen", "how to mend it"], rows, numbers=("runs",))
        if rows
        else Markup("")
    )
    return join([tag("p", telling.audit_summary(report), of="note"), found])


def runs(report: Report) -> Markup:
    """Return the list of runs, to be sorted and filtered."""
    params = [one.key for one in report.varied]
    metric = report.standings.metric
    has_names = any(row.name != row.label.rpartition("/")[2] for row in report.runs)
    columns = [
        "run",
        *(["name"] if has_names else []),
        "status",
        *params,
        "seed",
        *([metric] if metric else []),
    ]
    columns += ["started", "duration", "commit"]
    rows = []
    for row in report.runs:
        cells: list[Cell | str] = [Cell(name(row.label)), *([Cell(name(row.name))] if has_names else [])]
        cells.append(Cell(_status(row.status)))
        cells += [row.params.get(key, "-") for key in params]
        cells.append(row.seed or "-")
        cells += [Cell(number(row.result), value=row.result, is_number=True)] if metric else []
        started = moment(row.started_at)
        cells += [
            Cell(started, value=float(row.started_at or 0)),
            Cell(duration(row.duration_s), value=row.duration_s or 0.0),
        ]
        cells.append(Cell(tag("code", (row.git_commit or "-")[:10])))
        rows.append(cells)
    field = '<input class="filter" type="search" placeholder="filter runs" aria-label="filter runs">'
    more = (
        tag("p", f"{counted(report.more_runs, 'run')} more left out", of="note") if report.more_runs else ""
    )
    return Markup(
        f"<div>{field}{table(columns, rows, numbers=(metric or '', 'started', 'duration'))}{more}</div>"
    )

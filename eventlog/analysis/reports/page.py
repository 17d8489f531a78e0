"""A report as one page of HTML: no network, no other files, and everything readable where scripts are off.

All texts of logs are escaped, none becomes a link. Should one slip through nevertheless, the page's policy
lets no script, style or address run or load but its own, which it names by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from eventlog.analysis.reports import telling
from eventlog.analysis.reports.charts import HEIGHT, LEFT, RIGHT, WIDTH, is_switchable, strip, svg, swatch
from eventlog.analysis.reports.markup import (
    Cell,
    Markup,
    duration,
    join,
    lines,
    moment,
    name,
    one_line,
    table,
    tag,
    text,
)
from eventlog.analysis.reports.model import Benchmark, Chart, Report, Standing, counted, listed
from eventlog.analysis.reports.scales import x_scale
from eventlog.analysis.shown import mean_and_std, number

Section = tuple[str, str, Markup]


def to_html(report: Report) -> str:
    """Return the whole page; the same report gives the same bytes."""
    sections = [section for section in _sections(report) if section[2]]
    links = join(Markup(f'<a href="#{key}">{heading}</a>') for key, heading, _ in sections)
    body = join(
        Markup(f'<section><h2 id="{key}">{heading}</h2>{content}</section>')
        for key, heading, content in sections
    )
    about = report.about
    style, script = _style(_places(report)), _script()
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    asked = tag("p", f"Chosen by {about.asked}", of="soft") if about.asked else Markup("")
    date = tag("p", about.date, of="soft") if about.date else Markup("")
    problems = join(tag("p", problem, of="error") for problem in report.problems)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(about.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{text(about.title)}</h1>{_subtitle(report)}{asked}{date}<nav>{links}</nav>{problems}"
        f"{_facts(report)}{_best(report)}</header>\n<main>{body}</main>\n"
        "<footer>Written by evlog from the logs of the runs. Times are UTC.</footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _sections(report: Report) -> list[Section]:
    return [
        ("ranking", "Leaderboard", _ranking(report)),
        ("notes", "Decisions and notes", _said(report)),
        ("curves", "Curves", _charts(report)),
        ("differences", "What differs", _varied(report)),
        ("evaluations", "Evaluations", join(_benchmark(one) for one in report.benchmarks)),
        ("pictures", "Pictures", _pictures(report)),
        ("failures", "Runs that did not finish", _troubled(report)),
        ("damage", "Damaged logs", _damaged(report)),
        ("audit", "Audit", _audit(report)),
        ("runs", "All runs", _runs(report)),
    ]


# --- the head ----------------------------------------------------------------------------------------


def _subtitle(report: Report) -> Markup:
    about = report.about
    tags = [f"{key} × {count}" if count < about.runs else key for key, count in about.tags.items()][:12]
    what = f"{counted(about.runs, 'run')} of {listed(about.projects)}"
    chips = join(tag("span", one) for one in tags)
    return Markup(tag("p", what, of="soft") + (f'<div class="chips">{chips}</div>' if tags else ""))


def _facts(report: Report) -> Markup:
    cards = join(
        Markup(f"<div><dt>{text(key)}</dt><dd>{text(value)}{tag('small', small) if small else ''}</dd></div>")
        for key, value, small in telling.facts(report.about)
    )
    return Markup(f'<dl class="facts">{cards}</dl>')


def _best(report: Report) -> Markup:
    told = join(tag("p", line) for line in telling.verdict_lines(report)) if report.standings.metric else ""
    return Markup(f'<div class="best">{tag("strong", telling.best_line(report))}{told}</div>')


# --- the ranking -------------------------------------------------------------------------------------


def _ranking(report: Report) -> Markup:
    standings = report.standings
    if standings.metric is None:
        return Markup("")
    shown = [value for one in standings.places for value in one.values]
    shown = [value for value in shown if math.isfinite(value)]
    columns = telling.place_columns(standings)
    at = len(columns) - (2 if standings.group_by else 1)
    has_strips = len(standings.places) > 1 and bool(shown)
    rows = []
    for i, one in enumerate(standings.places):
        cells: list[Cell | str] = list(_place_cells(report, one, i))
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


def _place_cells(report: Report, one: Standing, i: int) -> list[Cell]:
    standings = report.standings
    texts = telling.place_cells(one, standings)
    first = 1 + (len(standings.group_by) or 1)
    cells = [Cell(texts[0], value=float(one.place.rank or 1e9), is_number=True)]
    cells.append(Cell(_marked(i, texts[1])))
    cells += [Cell(value) for value in texts[2:first]]
    for key, value in zip(standings.metrics, texts[first:], strict=False):
        spread = one.place.scores.get(key)
        cells.append(Cell(value, value=None if spread is None else spread.mean, is_number=True))
    rest = texts[first + len(standings.metrics) :]
    if not standings.group_by:
        return [*cells, Cell(_status(rest[0]))]
    return [*cells, *(Cell(value, is_number=True) for value in rest)]


def _marked(place: int, label: str) -> Markup:
    """Return a name behind the line that the charts draw for it."""
    return Markup(f'<span class="row">{swatch(place)} {tag("bdi", text(label, 80))}</span>')


def _status(status: str) -> Markup:
    known = status if status in {"running", "finished", "failed", "killed", "crashed"} else "other"
    return tag("span", status, of=f"status {known}")


def _said(report: Report) -> Markup:
    def one(said_text: str, runs: Sequence[str], is_decision: bool, stands: bool) -> Markup:
        state = "" if not is_decision or stands else "No longer stands. "
        total = report.about.runs
        who = "all runs" if len(runs) == total and total > 1 else listed(runs)
        of = "said decision" if is_decision else "said"
        return Markup(f'<div class="{of}">{lines(said_text)}{tag("p", state + who, of="note")}</div>')

    return join(one(said.text, said.runs, said.is_decision, said.stands) for said in report.said)


# --- curves ------------------------------------------------------------------------------------------


def _places(report: Report) -> list[int]:
    return sorted({place for chart in report.charts for place in chart.places})


def _charts(report: Report) -> Markup:
    if not report.charts:
        return Markup("")
    labels = report.standings.places
    switches = join(
        Markup(
            f'<label><input type="checkbox" class="k{place}" checked>{swatch(place)} {tag("bdi", text(labels[place].label, 80))}</label>'
        )
        for place in _places(report)
    )
    left = len(report.standings.places) + report.standings.left_out - len(_places(report))
    band = (
        "Lines are means over the runs of a group, bands one standard deviation. "
        if report.standings.group_by
        else ""
    )
    more = f"{left} more are not drawn." if left > 0 else ""
    panels = join(_panel(chart) for chart in report.charts)
    return Markup(
        f'{tag("p", band + more, of="note") if band or more else ""}<div class="legend">{switches}</div>'
        f'<div class="charts">{panels}</div>'
    )


def _panel(chart: Chart) -> Markup:
    switch = (
        f'<label><input type="checkbox" class="logs"{" checked" if chart.is_log else ""}> log scale</label>'
        if is_switchable(chart)
        else ""
    )
    rows = [
        [
            Cell(_marked(place, curve.label)),
            *(Cell(cell, is_number=True) for cell in telling.curve_cells(curve, chart)),
        ]
        for curve, place in zip(chart.curves, chart.places, strict=True)
    ]
    values = table(["curve", "first", "best", "last"], rows, numbers=("first", "best", "last"))
    notes = join(tag("p", note, of="note") for note in chart.notes)
    return Markup(
        f'<div class="chart"><div class="top"><h3>{text(chart.key)}</h3>{switch}</div>{svg(chart)}{notes}'
        f"<details><summary>Values</summary>{values}</details>"
        f'<script type="application/json">{_data(chart)}</script></div>'
    )


def _data(chart: Chart) -> str:
    """Return the points for whoever hovers, as JSON that cannot end its element."""
    across = x_scale([x for curve in chart.curves for x in curve.xs], LEFT, RIGHT)
    found = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "low": across.low,
        "high": across.high,
        "curves": [
            {
                "place": place,
                "name": one_line(curve.label, 80),
                "x": curve.xs,
                "y": [_short(value) for value in curve.ys],
                "s": None
                if curve.low is None or curve.high is None
                else [_short((high - low) / 2, 3) for low, high in zip(curve.low, curve.high, strict=True)],
            }
            for curve, place in zip(chart.curves, chart.places, strict=True)
        ],
    }
    said = json.dumps(found, separators=(",", ":"), allow_nan=False)
    return said.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _short(value: float, digits: int = 6) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


# --- what else there is --------------------------------------------------------------------------------


def _varied(report: Report) -> Markup:
    if not report.varied:
        return tag("p", telling.NO_RUNS_ARE_TOLD_APART, of="note") if report.about.runs > 1 else Markup("")
    rows: list[list[Cell | str]] = []
    for one in report.varied:
        key, values = telling.varied_cells(one)
        chips = join(tag("span", value) for value in values)
        rows.append([Cell(tag("code", key)), Cell(Markup(f'<div class="chips">{chips}</div>'))])
    return table(["param", "values × runs"], rows)


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


def _pictures(report: Report) -> Markup:
    if not report.images:
        return Markup("")
    figures = join(
        Markup(
            f'<figure><img alt="{text(image.caption or image.name)}" width="{image.width}" height="{image.height}" '
            f'src="data:image/png;base64,{base64.b64encode(image.data).decode()}">'
            f"<figcaption>{text(image.caption or image.name)}<br>"
            f"{tag('span', image.run + ('' if image.step is None else f', step {image.step}'), of='soft')}</figcaption></figure>"
        )
        for image in report.images
    )
    more = f"{counted(report.more_images, 'picture')} more left out: too many, too large, or no PNG."
    note = tag("p", more, of="note") if report.more_images else ""
    return Markup(f'<div class="pictures">{figures}</div>{note}')


def _troubled(report: Report) -> Markup:
    if not report.troubled:
        return Markup("")
    rows = [
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


def _damaged(report: Report) -> Markup:
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


def _audit(report: Report) -> Markup:
    audit = report.audit
    if audit is None:
        return Markup("")
    rows = [
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


def _runs(report: Report) -> Markup:
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


# --- what the page carries ----------------------------------------------------------------------------


def _style(places: Sequence[int]) -> str:
    """Return the style sheet; a box that is not checked hides its place in all charts, without a script."""
    hides = (f"main:has(.k{i}:not(:checked)) .chart > svg .p{i} {{ display: none; }}\n" for i in places)
    return _asset("page.css") + "".join(hides)


def _script() -> str:
    return _asset("page.js")


@cache
def _asset(file: str) -> str:
    return files("eventlog.analysis.reports").joinpath(file).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

"""A report as one page of HTML: no network, no other files, and everything readable where scripts are off.

All texts of logs are escaped, none becomes a link. Should one slip through nevertheless, the page's policy
lets no script, style or address run or load but its own, which it names by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from eventlog.analysis.reports import sections, telling
from eventlog.analysis.reports.markup import Markup, join, tag, text
from eventlog.analysis.reports.model import Report, counted, listed
from eventlog.analysis.reports.sections_curves import drawn_places, shown_curves

Section = tuple[str, str, Markup]


def to_html(report: Report) -> str:
    """Return the whole page; the same report gives the same bytes."""
    shown = [section for section in _sections(report) if section[2]]
    links = join(Markup(f'<a href="#{key}">{heading}</a>') for key, heading, _ in shown)
    body = join(
        Markup(f'<section><h2 id="{key}">{heading}</h2>{content}</section>')
        for key, heading, content in shown
    )
    about = report.about
    style, script = _style(drawn_places(report)), _script()
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
        ("ranking", "Leaderboard", sections.ranking(report)),
        ("notes", "Decisions and notes", sections.said(report)),
        ("curves", "Curves", shown_curves(report)),
        ("differences", "What differs", sections.varied(report)),
        ("evaluations", "Evaluations", sections.evaluations(report)),
        ("pictures", "Pictures", sections.pictures(report)),
        ("failures", "Runs that did not finish", sections.troubled(report)),
        ("damage", "Damaged logs", sections.damaged(report)),
        ("audit", "Audit", sections.audit(report)),
        ("runs", "All runs", sections.runs(report)),
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

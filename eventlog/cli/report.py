"""``evlog report``: one page about runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import RootNotFoundError, complete_run
from eventlog.cli.leaderboard import Experiment, Project, Where, WhichMode
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.cli.runs import Status
from eventlog.cli.selecting import SYNTAX, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventlog.analysis.reports.model import Audited, AuditLine, Report
    from eventlog.lineage.audit_lines import Line

AUDITED = 100
"""Runs that are audited: their logs are read whole, which the rest of a report does without."""


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", autocompletion=complete_run, help=SYNTAX + " Default all."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", "-m", metavar="KEY", help="Rank by the first one, show the others too; repeatable."
        ),
    ] = None,
    mode: WhichMode = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by",
            "-g",
            metavar="PARAM",
            help="Take runs together that agree on it; repeatable, or with commas. Default: all params that "
            "vary, but the seed.",
        ),
    ] = None,
    experiment: Experiment = None,
    project: Project = None,
    where: Where = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="running|finished|failed|killed|crashed", help="Only runs that stand so; repeatable."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write .html or .md; default Markdown to stdout."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Over the page.")] = None,
    date: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Shown below the title; default no date at all.")
    ] = None,
    log_y: Annotated[bool, typer.Option("--log-y", help="Show logarithmic scales first.")] = False,
    with_audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Say what the runs lack, as `evlog audit` does.")
    ] = True,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write one page about runs: who is best and how sure that is, curves, notes, failures, what they lack.

    A page in HTML needs no other file, no network and no script. The same logs give the same page.
    """
    from eventlog.analysis.reporting import report as report_on
    from eventlog.analysis.reporting import to_html, to_markdown

    form = _form(output)
    if not root.is_dir():
        raise RootNotFoundError(root)
    conditions = {"--experiment": experiment, "--project": project, "--where": where, "--status": status}
    if runs and (given := [name for name, value in conditions.items() if value]):
        raise typer.BadParameter(f"RUN and {given[0]} both say which runs are meant. Give one of them.")
    with render.progress("reading runs"):
        found = report_on(
            root,
            None if not runs else list(dict.fromkeys(path for one in runs for path in select(one, root))),
            experiment=experiment,
            project=project,
            where=where,
            status=[str(one) for one in status or ()],
            metrics=metric or (),
            mode=None if mode is None else mode.value,
            group_by=group_by or (),
            title=title,
            date=date,
            log_y=log_y,
        )
        if with_audit:
            found = found.with_audit(_audited(found, root))
    for problem in found.problems:
        render.say(problem)
    if output is not None:
        _write(output, to_html(found) if form == ".html" else to_markdown(found))
    if as_json:
        render.write_json(found.to_dict())
    elif output is None:
        render.write(to_markdown(found).rstrip("\n"))


def _form(output: Path | None) -> str:
    """Return what the file's name says it is."""
    if output is None:
        return ".md"
    form = {".htm": ".html", ".markdown": ".md"}.get(output.suffix.lower(), output.suffix.lower())
    if form not in {".html", ".md"}:
        raise typer.BadParameter(f"{str(output)!r} is neither .html nor .md.", param_hint="--output")
    if not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no directory for {str(output)!r}.")
    return form


def _write(output: Path, content: str) -> None:
    from eventlog.storage.system import replace_file

    if output.exists() and not output.is_file():
        output.write_text(content, encoding="utf-8")  # /dev/stdout, a pipe
        return
    replace_file(Path(os.path.realpath(output)), content.encode())


def _audited(found: Report, root: Path) -> Audited:
    """Audit the runs of a report: each check that does not pass, and how many runs it concerns."""
    from eventlog.analysis.facts import RunFacts, load
    from eventlog.analysis.reports.model import Audited
    from eventlog.configuration import read_table
    from eventlog.lineage.audit import audit
    from eventlog.lineage.audit_lines import AuditRules
    from eventlog.lineage.naming import NamingRules

    rules = read_table("audit", AuditRules, root=root)
    naming = read_table("naming", NamingRules, root=root)
    facts: list[RunFacts] = []
    unread = 0
    for path in found.paths[:AUDITED]:
        try:
            facts.append(load(Path(path)))
        except OSError:
            unread += 1  # the note says so
    outcome = audit(facts, rules, naming)
    notes = []
    if len(found.paths) > AUDITED:
        notes.append(f"{len(found.paths) - AUDITED} more were not looked at: evlog audit does.")
    if unread:
        notes.append(f"{unread} could not be read.")
    reports = [*outcome.runs, *outcome.experiments]
    return Audited(
        runs=len(facts),
        lines=_by_check([(line, one.runs) for one in reports for line in one.lines if line.level != "pass"]),
        note=" ".join(notes),
    )


def _by_check(lines: Sequence[tuple[Line, int]]) -> list[AuditLine]:
    """Return each check once, failures first, those of most runs first."""
    from eventlog.analysis.reports.model import AuditLine

    found: dict[tuple[str, str], AuditLine] = {}
    for line, runs in lines:
        key = line.level, line.check
        before = found.get(key)
        found[key] = AuditLine(
            check=line.check,
            level=line.level,
            runs=runs + (before.runs if before else 0),
            text=before.text if before else line.text,
            mend=before.mend if before else line.mend,
        )
    return sorted(found.values(), key=lambda one: (one.level != "fail", -one.runs, one.check))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    app.command(
        "report",
        epilog="\b\nExamples:\n"
        "  evlog report --experiment sweep_lr_cnn --output report.html\n"
        "  evlog report --experiment aug_v1 --metric val/f1 --metric val/loss --group-by aug -o report.md\n"
        "  evlog report flip-0 flip-1 cutout-0 --metric val/acc\n"
        "  evlog report --where \"started_at > '2026-01-01'\" --json | jq .standings.places[0]",
    )(report)

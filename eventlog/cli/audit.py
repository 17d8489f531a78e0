"""``evlog audit``: what a run lacks to be trusted, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import complete_run, resolve_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root

if TYPE_CHECKING:
    from eventlog.analysis.facts import RunFacts
    from eventlog.lineage.audit import Audit, Report
    from eventlog.lineage.naming import NamingRules


def audit(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            autocompletion=complete_run,
            help="The runs; default all. With --names: names.",
        ),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this experiment.")
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this project.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too, for CI.")] = False,
    show_all: Annotated[
        bool, typer.Option("--all/--only-problems", help="Show also what is good; default for a single run.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Check names of metrics, given instead of runs.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Check runs for what makes them repeatable and comparable, and say how to mend what they lack.

    Params, seed, data, code, environment, metrics and their names, artifacts, tags, notes; and over the runs
    of one experiment, whether they can be compared. The tables [audit] and [naming] of evlog.toml change
    what is asked. Exit code 1 if something fails. What a run that has ended lacks is added with
    start_run(run_id=…, resume=True) and the call that is shown, or with the command.
    """
    from eventlog.configuration import read_table
    from eventlog.lineage.audit import audit as audit_of
    from eventlog.lineage.audit_lines import AuditRules
    from eventlog.lineage.naming import NamingRules

    naming = read_table("naming", NamingRules, root=root)
    if names:
        _check_names(words or [], naming, strict=strict, as_json=as_json)
        return
    rules = read_table("audit", AuditRules, root=root)
    found, unreadable = _load(words, root, project, experiment)
    outcome = audit_of(found, rules, naming)
    if as_json:
        render.write_json(outcome.to_dict())
    else:
        _write(outcome, show_all=show_all or len(outcome.runs) == 1)
    if unreadable or not outcome.is_good(strict=strict):
        raise typer.Exit(1)


def _load(
    words: list[str] | None, root: Path, project: str | None, experiment: str | None
) -> tuple[list[RunFacts], int]:
    """Return the runs that are wanted, and how many cannot be read."""
    from eventlog.analysis.facts import load

    runs = [run for run in resolve_runs(words, root) if project in (None, run.project)]
    found, unreadable = [], 0
    with render.progress("reading runs", total=len(runs)) as bar:
        for run in runs:
            try:
                facts = load(run.path)
            except OSError as error:
                render.say(f"{run.project}/{run.run_id} cannot be read: {error}")
                unreadable += 1
            else:
                if experiment in (None, facts.view.experiment):
                    found.append(facts)
            bar.advance()
    return found, unreadable


def _check_names(words: list[str], naming: NamingRules, *, strict: bool, as_json: bool) -> None:
    from eventlog.lineage.naming import check_names

    if not words:
        raise typer.BadParameter("--names needs names: evlog audit --names val_f1_macro F1")
    problems = check_names(words, naming)
    if as_json:
        render.write_json([problem.to_dict() for problem in problems])
    elif problems:
        rows = [(one.name, one.suggestion or "", "; ".join(one.reasons)) for one in problems]
        render.write_table(("name", "better", "why"), rows)
    if problems and strict:
        raise typer.Exit(1)


def _write(outcome: Audit, *, show_all: bool) -> None:
    if not outcome.runs:
        render.say("there are no such runs")
    for report in [*outcome.runs, *outcome.experiments]:
        _write_report(report, show_all=show_all)
    reports = [*outcome.runs, *outcome.experiments]
    counts = ", ".join(
        f"{sum(r.count(level) for r in reports)} {level}" for level in ("pass", "warn", "fail")
    )
    render.write(f"{len(outcome.runs)} run{'s' * (len(outcome.runs) != 1)}: {counts}")


def _write_report(report: Report, *, show_all: bool) -> None:
    lines = [line for line in report.lines if show_all or line.level != "pass"]
    what = f" ({report.runs} runs)" if report.runs > 1 else ""
    render.write(f"{render.printable(report.subject)}{what}: {report.level}")
    if lines:
        rows = [(line.level, line.check, line.text, line.mend) for line in lines]
        render.write_table(("level", "check", "what", "how to mend it"), rows, indent=2)
    render.write("")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to *app*."""
    examples = (
        "evlog audit digits-1",
        "evlog audit --experiment sweep_lr_cnn --strict",
        "evlog audit --json | jq '.runs[] | select(.level == \"fail\") | .subject'",
        "evlog audit --names F1 AUCtest val_f1_macro",
    )
    lines = "\n".join(f"  {line}" for line in examples)
    app.command("audit", epilog=f"\b\nExamples:\n{lines}")(audit)

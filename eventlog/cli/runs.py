"""``evlog list``: what runs there are."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.cli import render
from eventlog.cli.find import all_runs
from eventlog.cli.options import DEFAULT_ROOT, AsJson, Root
from eventlog.storage.layout import RunPath, list_segments, log_directory
from eventlog.storage.modes import opener

if TYPE_CHECKING:
    from eventlog.projections import RunView

_TS = re.compile(rb'"ts":(\d{1,19})')


class Status(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    CRASHED = "crashed"


def list_runs(
    root: Root = DEFAULT_ROOT,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this project.")] = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="running|finished|failed|killed|crashed", help="Only runs that stand so; repeatable."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="Only runs with this tag; repeatable, all must fit."),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this experiment.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Show this param; repeatable.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="Show this result: a metric, final value or benchmark/metric; repeatable."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    found = [run for run in all_runs(root) if project is None or run.project == project]
    unreadable: list[RunPath] = []
    views: list[tuple[RunPath, RunView]] = []
    with render.progress("reading runs", total=len(found)) as bar:
        for run, view in _outlines(sorted(found, key=_begun, reverse=True), bar, unreadable):
            fits = (not status or view.status in status) and all(_has_tag(view, one) for one in tag or ())
            if fits and experiment in (None, view.experiment):
                views.append((run, view))
            if limit is not None and len(views) == limit:
                break
    views.sort(key=lambda pair: pair[1].started_at or 0, reverse=True)
    more = [_asked_for(run, view, param or [], metric or []) for run, view in views]
    if as_json:
        render.write_json([outline_json(*pair) | extra for pair, extra in zip(views, more, strict=True)])
    else:
        _write_list([view for _, view in views], [*(param or []), *(metric or [])], more)
    if unreadable:
        raise typer.Exit(1)


def _outlines(
    runs: Iterable[RunPath], bar: render.Bar, unreadable: list[RunPath]
) -> Iterator[tuple[RunPath, RunView]]:
    from eventlog.replay import outline

    for run in runs:
        try:
            yield run, outline(run.path)
        except OSError as error:
            render.say(f"{run.project}/{run.run_id} cannot be read: {error}")
            unreadable.append(run)
        bar.advance()


def _begun(run: RunPath) -> int:
    """Return when the first writer of *run* began, from the first line of its log, to sort by."""
    log_dir = log_directory(run.path)
    begun = []
    with contextlib.suppress(OSError):  # `outline` will say so
        for segments in list_segments(log_dir).values():
            with open(segments[0].path(log_dir), "rb", opener=opener) as file:
                found = _TS.search(file.readline(4096))
            if found:
                begun.append(int(found[1]))
    return min(begun, default=0)


def _has_tag(view: RunView, wanted: str) -> bool:
    name, has_value, value = wanted.partition("=")
    return name in view.tags and (not has_value or view.tags[name] == value)


def _asked_for(run: RunPath, view: RunView, params: list[str], metrics: list[str]) -> dict[str, object]:
    """Return the params and results that the list shall show, by their names; None for what is not there."""
    found: dict[str, object] = {name: view.flat_params.get(name) for name in params}
    if metrics:
        from eventlog.analysis.facts import load, results

        known = results(load(run.path))
        found |= {name: known.get(name) for name in metrics}
    return found


def _write_list(views: list[RunView], names: list[str], more: list[dict[str, object]]) -> None:
    columns = ("run", "name", "status", "started", "duration", "events", *names, "tags")
    rows = [
        (
            f"{view.project}/{view.run_id}",
            "" if view.name == view.run_id else view.name,
            view.status,
            render.local_time(view.started_at),
            render.duration(view.duration_s),
            str(view.events),
            *(_short(extra[name]) for name in names),
            tags_text(view.tags),
        )
        for view, extra in zip(views, more, strict=True)
    ]
    render.write_table(columns, rows, right=("duration", "events", *names))
    damaged = [view for view in views if view.findings]
    if damaged:
        labels = " ".join(f"{view.project}/{view.run_id}" for view in damaged[:5])
        render.say(f"{len(damaged)} of these runs have damage. See: evlog verify {labels}")


def _short(value: object) -> str:
    return render.number(value) if isinstance(value, float) else render.cell(value)


def tags_text(tags: dict[str, str | None]) -> str:
    """Return tags as ``name, name=value``."""
    return ", ".join(name if value is None else f"{name}={value}" for name, value in sorted(tags.items()))


def outline_json(run: RunPath, view: RunView) -> dict[str, object]:
    """Return who and when, as JSON has it."""
    from eventlog.clock import iso_utc

    end = ended_at(view)
    return {
        "project": view.project,
        "run_id": view.run_id,
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": None if view.started_at is None else iso_utc(view.started_at),
        "ended_at": None if end is None else iso_utc(end),
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "events": view.events,
        "tags": view.tags,
        "findings": view.findings,
        "path": str(run.path),
    }


def ended_at(view: RunView) -> int | None:
    """Return the end; a run that `evlog log --keep-open` has left is not over."""
    return None if view.status == Status.RUNNING else view.ended_at
